// Package containerfile checks deploy/image/Containerfile with BuildKit's own parser and linter, without a
// container engine: it is well-formed, and evaluates to an image for each platform.
package containerfile

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

const root = "../.."

// registry returns an empty image of the requested platform for every base image.
type registry struct{}

func (registry) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	config, err := json.Marshal(ocispecs.Image{Platform: *opt.ImageOpt.Platform})
	return ref, digest.FromBytes(config), config, err
}

func options(text []byte) dockerfile2llb.ConvertOpt {
	source := llb.NewSourceMap(nil, "Containerfile", "", text)
	source.Definition = &llb.Definition{}
	return dockerfile2llb.ConvertOpt{SourceMap: source, MetaResolver: registry{}}
}

func read(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/image/Containerfile"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheLinterHasNothingToSay(t *testing.T) {
	text := read(t)
	results, err := dockerfile2llb.DockerfileLint(context.Background(), text, options(text))
	if err != nil {
		t.Fatal(err)
	}
	if results.Error != nil {
		t.Fatal(results.Error.Message)
	}
	for _, warning := range results.Warnings {
		t.Errorf("%s: %s", warning.RuleName, warning.Detail)
	}
}

func TestItLeadsToTheSameImageForEachPlatform(t *testing.T) {
	text := read(t)
	for _, architecture := range []string{"amd64", "arm64"} {
		opt := options(text)
		opt.TargetPlatform = &ocispecs.Platform{OS: "linux", Architecture: architecture}
		result, err := dockerfile2llb.Dockerfile2LLB(context.Background(), text, opt)
		if err != nil {
			t.Fatalf("%s: %v", architecture, err)
		}
		// The same as in tools/image.
		config, image := result.Image.Config, result.Image
		if image.Architecture != architecture || config.User != "65532:65532" ||
			strings.Join(config.Entrypoint, " ") != "/graph-credential-operator" ||
			!slices.Contains(config.Env, "PATH=/") ||
			!slices.Contains(config.Env, "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt") {
			t.Errorf("%s: %+v", architecture, image)
		}
		if _, err := result.State.Marshal(context.Background(), llb.Platform(*opt.TargetPlatform)); err != nil {
			t.Errorf("%s: %v", architecture, err)
		}
	}
}

// It copies the same files as tools/image/source. Those are enough, because `make image-check` builds from
// them.
func TestItCopiesWhatABuildElsewhereIsMadeFrom(t *testing.T) {
	script, err := os.ReadFile(filepath.Join(root, "tools/image/source"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(script), "tar -cf - ")
	list, _, _ = strings.Cut(list, " tools/image |")
	copied := map[string]bool{}
	for line := range strings.Lines(string(read(t))) {
		words := strings.Fields(line)
		if len(words) > 2 && words[0] == "COPY" && !strings.HasPrefix(words[1], "--from") {
			for _, name := range words[1 : len(words)-1] {
				copied[name] = true
			}
		}
	}
	for _, name := range strings.Fields(list) {
		if !copied[name] {
			t.Errorf("%s is not copied", name)
		}
		delete(copied, name)
	}
	if !found || len(copied) > 0 {
		t.Errorf("copied as well: %v", copied)
	}
}
