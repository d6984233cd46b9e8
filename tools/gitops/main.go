// Command gitops evaluates objects as GitOps tools do, with their own code if it is a library: kstatus, which
// Flux and kpt use, and Argo CD's way of running a Lua script.
//
// It reads one JSON object per line from standard input, {"object": …, "health": "<lua>", "action": "<lua>"},
// with optional scripts, and prints one for each: {"kstatus": …, "health": {"status": …, "message": …},
// "changed": …}.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type question struct {
	Object map[string]any `json:"object"`
	Health string         `json:"health"`
	Action string         `json:"action"`
}

type answer struct {
	Kstatus string         `json:"kstatus"`
	Message string         `json:"message"`
	Health  any            `json:"health,omitempty"`
	Changed map[string]any `json:"changed,omitempty"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gitops:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	decoder := json.NewDecoder(bufio.NewReader(in))
	encoder := json.NewEncoder(out)
	for {
		var asked question
		err := decoder.Decode(&asked)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		told, err := judge(asked)
		if err != nil {
			return err
		}
		if err := encoder.Encode(told); err != nil {
			return err
		}
	}
}

func judge(asked question) (answer, error) {
	var told answer
	object := &unstructured.Unstructured{Object: whole(asked.Object).(map[string]any)}
	result, err := status.Compute(object)
	if err != nil {
		return told, fmt.Errorf("kstatus: %w", err)
	}
	told.Kstatus, told.Message = result.Status.String(), result.Message
	if asked.Health != "" {
		if told.Health, err = runScript(asked.Health, asked.Object); err != nil {
			return told, fmt.Errorf("health script: %w", err)
		}
	}
	if asked.Action != "" {
		changed, err := runScript(asked.Action, asked.Object)
		if err != nil {
			return told, fmt.Errorf("action: %w", err)
		}
		told.Changed, _ = changed.(map[string]any)
	}
	return told, nil
}

// whole turns numbers without a fraction into integers, which the Kubernetes libraries require.
func whole(value any) any {
	switch value := value.(type) {
	case map[string]any:
		turned := map[string]any{}
		for key, inner := range value {
			turned[key] = whole(inner)
		}
		return turned
	case []any:
		turned := make([]any, len(value))
		for at, inner := range value {
			turned[at] = whole(inner)
		}
		return turned
	case float64:
		if value == float64(int64(value)) {
			return int64(value)
		}
	}
	return value
}
