package main

import (
	"compress/zlib"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/CycloneDX/cyclonedx-go"
)

// auditData is the content of the section .dep-v0 that cargo-auditable puts into a binary.
type auditData struct {
	Packages []auditPackage `json:"packages"`
}

type auditPackage struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Source       string `json:"source"`
	Kind         string `json:"kind"`
	Dependencies []int  `json:"dependencies"`
	Root         bool   `json:"root"`
}

// writeBill writes the bill of materials of a binary, from the data in the binary itself.
func writeBill(path, binary string) error {
	data, err := readAuditData(binary)
	if err != nil {
		return err
	}
	bom, err := billOf(data)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	encoder := cyclonedx.NewBOMEncoder(file, cyclonedx.BOMFileFormatJSON).SetPretty(true)
	return errors.Join(encoder.EncodeVersion(bom, cyclonedx.SpecVersion1_6), file.Close())
}

func readAuditData(binary string) (auditData, error) {
	var data auditData
	file, err := elf.Open(binary)
	if err != nil {
		return data, err
	}
	defer file.Close()
	section := file.Section(".dep-v0")
	if section == nil {
		return data, errors.New("it does not say what it was made of: build it with `cargo auditable build`")
	}
	reader, err := zlib.NewReader(section.Open())
	if err != nil {
		return data, err
	}
	defer reader.Close()
	return data, json.NewDecoder(reader).Decode(&data)
}

// billOf lists the packages in the binary without those that are only needed to build it. It has no time and
// no serial number, so that a binary has only one bill.
func billOf(data auditData) (*cyclonedx.BOM, error) {
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = ""
	var components []cyclonedx.Component
	var dependencies []cyclonedx.Dependency
	var root *cyclonedx.Component
	for _, pkg := range data.Packages {
		if pkg.Kind == "build" {
			continue
		}
		component := cyclonedx.Component{
			BOMRef: url(pkg), Type: cyclonedx.ComponentTypeLibrary, Name: pkg.Name, Version: pkg.Version, PackageURL: url(pkg),
		}
		if pkg.Root {
			component.Type = cyclonedx.ComponentTypeApplication
			root = &component
		} else {
			components = append(components, component)
		}
		needs := []string{}
		for _, number := range pkg.Dependencies {
			if number < 0 || number >= len(data.Packages) {
				return nil, fmt.Errorf("%s depends on package %d, which is not there", pkg.Name, number)
			}
			if data.Packages[number].Kind != "build" {
				needs = append(needs, url(data.Packages[number]))
			}
		}
		dependencies = append(dependencies, cyclonedx.Dependency{Ref: url(pkg), Dependencies: &needs})
	}
	if root == nil {
		return nil, errors.New("its list of packages names no program")
	}
	bom.Metadata = &cyclonedx.Metadata{Component: root}
	bom.Components, bom.Dependencies = &components, &dependencies
	return bom, nil
}

// url is the package URL of a package.
func url(pkg auditPackage) string {
	return "pkg:cargo/" + pkg.Name + "@" + pkg.Version
}
