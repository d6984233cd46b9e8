"""Checks an image archive and its bill of materials against their specifications, without the code that built them.

    check.py ARCHIVE BILL

Prints the results as rows of a table; the first failed check ends it with a message.
"""

import gzip
import hashlib
import io
import json
import sys
import tarfile
import zlib

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from elftools.elf.elffile import ELFFile

OCI = "application/vnd.oci.image."
PROGRAM = "graph-credential-operator"


def need(holds, text):
    if not holds:
        sys.exit(f"check.py: {text}")


def blob(files, descriptor, media_type):
    """The content of a descriptor, if size, digest and type match."""
    need(descriptor["mediaType"] == OCI + media_type, f"{descriptor} is no {media_type}")
    algorithm, digest = descriptor["digest"].split(":")
    content = files.get(f"blobs/{algorithm}/{digest}", b"")
    need(len(content) == descriptor["size"], f"{digest} has {len(content)} bytes")
    need(hashlib.new(algorithm, content).hexdigest() == digest, f"{digest} is another content")
    return content


def unpacked(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


def packages(binary):
    """The packages that the program itself lists, and whether it needs a loader."""
    elf = ELFFile(io.BytesIO(binary))
    need(not any(segment["p_type"] == "PT_INTERP" for segment in elf.iter_segments()), "it is linked dynamically")
    section = elf.get_section_by_name(".dep-v0")
    need(section is not None, "the program does not say what it was made of")
    listed = json.loads(zlib.decompress(section.data()))["packages"]
    return {(it["name"], it["version"]) for it in listed if it.get("kind") != "build"}


def main():
    archive, bill = sys.argv[1:]
    with open(archive, "rb") as file:
        files = unpacked(file.read())
    need(json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}, "it is no OCI layout of version 1.0.0")
    index = json.loads(files["index.json"])
    need(index["schemaVersion"] == 2 and len(index["manifests"]) == 1, "its index does not name one image")
    entry = index["manifests"][0]
    manifest = json.loads(blob(files, entry, "manifest.v1+json"))
    config = json.loads(blob(files, manifest["config"], "config.v1+json"))
    layers = [blob(files, it, "layer.v1.tar+gzip") for it in manifest["layers"]]
    content = [gzip.decompress(layer) for layer in layers]
    diffs = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in content]
    need(config["rootfs"] == {"type": "layers", "diff_ids": diffs}, "its config names other layers")
    need(config["os"] == "linux" and config["config"]["User"] == "65532:65532", "it does not run as nobody")
    need("PATH=/" in config["config"]["Env"], "`kubectl exec` would not find the program by its name")
    need(len(files) == 4 + len(layers), f"there are files that nothing names: {sorted(files)}")

    inside = unpacked(content[0])
    roots = inside["etc/ssl/certs/ca-certificates.crt"].count(b"BEGIN CERTIFICATE")
    need(len(inside) == 2 and roots > 100, f"{sorted(inside)} with {roots} authorities")
    made_of = packages(inside[PROGRAM])

    with open(bill, encoding="utf-8") as file:
        text = file.read()
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    need(error is None, f"the bill of materials is no CycloneDX 1.6: {error}")
    bom = json.loads(text)
    billed = {(it["name"], it["version"]) for it in [*bom["components"], bom["metadata"]["component"]]}
    need(billed == made_of, f"bill and program differ in {billed ^ made_of}")

    size = entry["size"] + manifest["config"]["size"] + sum(it["size"] for it in manifest["layers"])
    need(size < 12 * 2**20, f"{size} bytes are 12 MiB or more")
    need((PROGRAM, config["config"]["Labels"]["org.opencontainers.image.version"]) in made_of, "the label is of another version")
    print(f"| digest | `{entry['digest']}` |")
    print(f"| digest of the config, which a node may show as the image id | `{manifest['config']['digest']}` |")
    print(f"| compressed size | {size / 2**20:.2f} MiB of at most 12 |")
    print(f"| program | linux/{config['architecture']}, static, {len(inside[PROGRAM]) / 2**20:.1f} MiB |")
    print(f"| authorities | {roots} |")
    print(f"| packages in the program, the same as in the bill | {len(made_of)} |")


main()
