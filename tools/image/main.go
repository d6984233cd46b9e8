// Command image puts a static binary into an OCI image archive, reproducibly and without a container engine. It lists the
// packages in the binary in a CycloneDX bill of materials.
//
//	image -version 0.1.0 -out image.tar -sbom image.cdx.json -binary linux/amd64=PATH [-binary linux/arm64=PATH]
//
// It prints the image's digest and its compressed size. `skopeo copy oci-archive:…`, `crane push`,
// `podman load`, `ctr images import` and docker 25 or newer can read the archive.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

// binaries are the values of -binary: a platform and a path each.
type binaries []binary

type binary struct {
	os, arch, path string
}

func (b *binaries) String() string { return "" }

func (b *binaries) Set(text string) error {
	platform, path, ok := strings.Cut(text, "=")
	system, arch, ok2 := strings.Cut(platform, "/")
	if !ok || !ok2 || path == "" {
		return errors.New("must be OS/ARCH=PATH, such as linux/amd64=target/release/graph-credential-operator")
	}
	*b = append(*b, binary{system, arch, path})
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var wanted binaries
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	version := flags.String("version", "", "version of the program, the image's tag")
	name := flags.String("name", "graph-credential-operator", "name of the program in the image, and of the image")
	out := flags.String("out", "", "the archive to write")
	bill := flags.String("sbom", "", "the bill of materials to write, of the first binary")
	limit := flags.Float64("limit", 0, "most MiB, compressed, that the images may have together; 0 means any")
	flags.Var(&wanted, "binary", "OS/ARCH=PATH, once for each platform")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *version == "" || *out == "" || len(wanted) == 0 {
		return errors.New("-version, -out and -binary are needed")
	}
	written, err := writeArchive(*out, *name, *version, wanted)
	if err != nil {
		return err
	}
	if *bill != "" {
		if err := writeBill(*bill, wanted[0].path); err != nil {
			return fmt.Errorf("%s: %w", wanted[0].path, err)
		}
	}
	fmt.Printf("%s %.2f MiB compressed\n", written.digest, float64(written.compressed)/(1<<20))
	if *limit > 0 && float64(written.compressed) > *limit*(1<<20) {
		return fmt.Errorf("more than %g MiB: what made it grow?", *limit)
	}
	return nil
}
