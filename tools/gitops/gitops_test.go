package main

import (
	"strings"
	"testing"
)

func ask(t *testing.T, line string) string {
	t.Helper()
	var out strings.Builder
	if err := run(strings.NewReader(line), &out); err != nil {
		return err.Error()
	}
	return out.String()
}

func TestKstatusIsThatOfTheLibrary(t *testing.T) {
	object := `"metadata": {"generation": 2}, "status": {"observedGeneration": 1}`
	if told := ask(t, `{"object": {"kind": "X", "apiVersion": "x/v1", `+object+`}}`); !strings.Contains(told, `"kstatus":"InProgress"`) {
		t.Fatal(told)
	}
}

func TestAScriptSeesTheObjectAndNothingOfTheMachine(t *testing.T) {
	if told := ask(t, `{"object": {"kind": "X"}, "health": "return {status = obj.kind, list = {1, 2}}"}`); !strings.Contains(told, `"health":{"list":[1,2],"status":"X"}`) {
		t.Fatal(told)
	}
	for _, script := range []string{"os.getenv('HOME')", "io.open('/etc/passwd')", "string.len('x')"} {
		if told := ask(t, `{"object": {"kind": "X"}, "health": "`+script+`"}`); !strings.Contains(told, "health script:") {
			t.Fatalf("%s: %s", script, told)
		}
	}
	if told := ask(t, `{"object": {"kind": "X"}, "action": "obj.at = os.date('!%Y', 0) return obj"}`); !strings.Contains(told, `"at":"1970"`) {
		t.Fatal(told)
	}
}
