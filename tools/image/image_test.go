package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const program = "graph-credential-operator"

// A static binary that is always available: this test, which is built without cgo.
func payload(t *testing.T) binary {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return binary{"linux", runtime.GOARCH, path}
}

func write(t *testing.T, binaries ...binary) (string, archive) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	written, err := writeArchive(path, program, "1.2.3", binaries)
	if err != nil {
		t.Fatal(err)
	}
	return path, written
}

// unpack reads the archive as its users do.
func unpack(t *testing.T, path string) v1.ImageIndex {
	t.Helper()
	directory := t.TempDir()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		name := filepath.Join(directory, filepath.FromSlash(header.Name))
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(directory)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func TestTheArchiveIsAValidImageThatRunsAsNobody(t *testing.T) {
	path, written := write(t, payload(t))
	index := unpack(t, path)
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest != written.digest {
		t.Fatalf("%+v, %v; %s was returned", manifest, err, written.digest)
	}
	image, err := index.Image(written.digest)
	if err != nil {
		t.Fatal(err)
	}
	// Computes every digest again.
	if err := validate.Image(image); err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(config.Config.Env, "PATH=/") {
		t.Fatalf("kubectl exec would not find the program: %v", config.Config.Env)
	}
	if config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/graph-credential-operator" || config.Architecture != runtime.GOARCH {
		t.Fatalf("%+v", config)
	}
	layers, _ := image.Layers()
	reader, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	// Stricter readers than Go's require the blocks of zeros at the end of an archive.
	if end := make([]byte, 1024); len(content)%512 != 0 || !bytes.HasSuffix(content, end) {
		t.Fatalf("the layer of %d bytes has no end", len(content))
	}
	modes := map[string]int64{}
	for files := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		modes[header.Name] = header.Mode
	}
	if len(modes) != 5 || modes[program] != 0o555 || modes[roots] != 0o444 {
		t.Fatalf("%v", modes)
	}
}

func TestTheSameBinaryIsTheSameArchive(t *testing.T) {
	one, _ := write(t, payload(t))
	two, _ := write(t, payload(t))
	first, err := os.ReadFile(one)
	second, err2 := os.ReadFile(two)
	if err := errors.Join(err, err2); err != nil || string(first) != string(second) {
		t.Fatalf("they differ: %v", err)
	}
}

func TestSeveralPlatformsShareOneIndex(t *testing.T) {
	binary := payload(t)
	path, written := write(t, binary, binary)
	index, err := unpack(t, path).ImageIndex(written.digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || manifest.Manifests[0].Platform.Architecture != runtime.GOARCH {
		t.Fatalf("%+v, %v", manifest, err)
	}
}

func TestWhatCannotRunInTheImageIsRefused(t *testing.T) {
	foreign := payload(t)
	foreign.arch = map[string]string{"amd64": "arm64", "arm64": "amd64"}[foreign.arch]
	if _, err := writeArchive(filepath.Join(t.TempDir(), "x"), program, "1", []binary{foreign}); err == nil || !strings.Contains(err.Error(), "it is for") {
		t.Fatalf("a binary for another machine: %v", err)
	}
	shell := payload(t)
	shell.path = "/bin/sh"
	if _, err := writeArchive(filepath.Join(t.TempDir(), "x"), program, "1", []binary{shell}); err == nil || !strings.Contains(err.Error(), "statically") {
		t.Fatalf("a dynamic binary: %v", err)
	}
}

func TestTheAuthoritiesAreManyAndReadable(t *testing.T) {
	if count := strings.Count(string(authorities()), "BEGIN CERTIFICATE"); count < 100 {
		t.Fatalf("%d authorities", count)
	}
}

func TestTheBillNamesWhatIsInTheProgramAndNotWhatBuiltIt(t *testing.T) {
	bom, err := billOf(auditData{[]auditPackage{
		{Name: "builder", Version: "1.0.0", Kind: "build"},
		{Name: "lib", Version: "2.0.0", Kind: "runtime"},
		{Name: program, Version: "0.1.0", Root: true, Dependencies: []int{0, 1}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(*bom.Components) != 1 || (*bom.Components)[0].PackageURL != "pkg:cargo/lib@2.0.0" {
		t.Fatalf("%+v", bom.Components)
	}
	if needs := *(*bom.Dependencies)[1].Dependencies; len(needs) != 1 || needs[0] != "pkg:cargo/lib@2.0.0" {
		t.Fatalf("%+v", needs)
	}
	if err := writeBill(filepath.Join(t.TempDir(), "x"), payload(t).path); err == nil || !strings.Contains(err.Error(), "cargo auditable") {
		t.Fatalf("a binary without a list: %v", err)
	}
}

func TestAnImageThatGrewBeyondItsLimitIsRefused(t *testing.T) {
	binary := payload(t)
	args := []string{"-version", "0.1.0", "-out", filepath.Join(t.TempDir(), "image.tar"), "-binary",
		binary.os + "/" + binary.arch + "=" + binary.path}
	if err := run(append([]string{"-limit", "0.01"}, args...)); err == nil || !strings.Contains(err.Error(), "more than 0.01 MiB") {
		t.Fatal(err)
	}
	if err := run(args); err != nil {
		t.Fatal(err)
	}
}
