package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	// The user of the process, which no distribution uses.
	user = "65532:65532"
	// The file in which both the program and its TLS library look for CA certificates.
	roots = "etc/ssl/certs/ca-certificates.crt"
)

// The time of everything in the image, because a different time would change the digest.
var epoch = time.Unix(0, 0).UTC()

// archive is the result of writeArchive.
type archive struct {
	digest     v1.Hash
	compressed int64
}

// writeArchive writes one image for each binary, with an index if there are several.
func writeArchive(path, name, version string, binaries []binary) (archive, error) {
	var images []v1.Image
	for _, binary := range binaries {
		image, err := imageOf(binary, name, version)
		if err != nil {
			return archive{}, fmt.Errorf("%s: %w", binary.path, err)
		}
		images = append(images, image)
	}
	// The name of the image for tools that load the archive.
	annotations := map[string]string{
		"io.containerd.image.name":          "localhost/" + name + ":" + version,
		"org.opencontainers.image.ref.name": version,
	}
	directory, err := os.MkdirTemp("", "image-")
	if err != nil {
		return archive{}, err
	}
	defer os.RemoveAll(directory)
	oci, err := layout.Write(directory, empty.Index)
	if err != nil {
		return archive{}, err
	}
	var digest v1.Hash
	if len(images) == 1 {
		digest, err = images[0].Digest()
		err = errors.Join(err, oci.AppendImage(images[0], layout.WithAnnotations(annotations)))
	} else {
		index := indexOf(images, binaries)
		digest, err = index.Digest()
		err = errors.Join(err, oci.AppendIndex(index, layout.WithAnnotations(annotations)))
	}
	if err != nil {
		return archive{}, err
	}
	compressed, err := sizeOf(images[0])
	if err != nil {
		return archive{}, err
	}
	return archive{digest, compressed}, tarDirectory(path, directory)
}

func indexOf(images []v1.Image, binaries []binary) v1.ImageIndex {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for number, image := range images {
		platform := &v1.Platform{OS: binaries[number].os, Architecture: binaries[number].arch}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return index
}

func imageOf(binary binary, program, version string) (v1.Image, error) {
	content, err := os.ReadFile(binary.path)
	if err != nil {
		return nil, err
	}
	if err := requireStatic(content, binary.arch); err != nil {
		return nil, err
	}
	files, err := layerOf(program, content)
	if err != nil {
		return nil, err
	}
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil }
	layer, err := tarball.LayerFromOpener(opener, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(9))
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "tools/image"}})
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = binary.os, binary.arch, v1.Time{Time: epoch}
	file.Config = v1.Config{
		User:       user,
		Entrypoint: []string{"/" + program},
		// With PATH, `kubectl exec` finds the program by its name.
		Env:        []string{"PATH=/", "SSL_CERT_FILE=/" + roots},
		WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":    program,
			"org.opencontainers.image.version":  version,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(image, file)
}

// requireStatic rejects a binary that needs a loader or libraries, because the image contains none.
func requireStatic(content []byte, arch string) error {
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return err
	}
	defer file.Close()
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	if machine, known := machines[arch]; !known || file.Machine != machine {
		return fmt.Errorf("it is for %s, not for %s", file.Machine, arch)
	}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			return errors.New("it is linked dynamically, and the image has no libraries: link it statically")
		}
	}
	return nil
}

// layerOf is the image's only layer: the program and the CA certificates that it trusts.
func layerOf(program string, binary []byte) ([]byte, error) {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, folder := range []string{"etc/", "etc/ssl/", "etc/ssl/certs/"} {
		header := &tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o755, ModTime: epoch, Format: tar.FormatUSTAR}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
	}
	if err := writeFile(writer, roots, 0o444, authorities()); err != nil {
		return nil, err
	}
	if err := writeFile(writer, program, 0o555, binary); err != nil {
		return nil, err
	}
	// The end of the archive is written now, so its bytes are read afterwards.
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

func writeFile(writer *tar.Writer, name string, mode int64, content []byte) error {
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: epoch, Format: tar.FormatUSTAR,
	}
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err := writer.Write(content)
	return err
}

// authorities are the CA certificates that Mozilla trusts, except for those with a constraint, which a file
// of certificates cannot express.
func authorities() []byte {
	var buffer bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&buffer, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return buffer.Bytes()
}

// sizeOf is the size of what a node pulls: manifest, config and layers.
func sizeOf(image v1.Image) (int64, error) {
	size, err := image.Size()
	if err != nil {
		return 0, err
	}
	manifest, err := image.Manifest()
	if err != nil {
		return 0, err
	}
	size += manifest.Config.Size
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return size, nil
}

// tarDirectory writes the files of a directory, sorted by name, without time and owner.
func tarDirectory(path, directory string) error {
	var names []string
	err := filepath.WalkDir(directory, func(name string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	sort.Strings(names)
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	writer := tar.NewWriter(file)
	for _, name := range names {
		relative, err := filepath.Rel(directory, name)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := writeFile(writer, filepath.ToSlash(relative), 0o444, content); err != nil {
			return err
		}
	}
	return errors.Join(writer.Close(), file.Close())
}
