"""Every ceiling that concerns untrusted bytes, in one frozen record whose defaults are the table of docs/hostile.md.

What lies above a ceiling is never called clean: the reader that meets it refuses the bytes (`Rejected`) or marks what it
read as PARTIAL, and says which ceiling it was. Limits know nothing of clocks: deadlines belong to the process that runs us.
"""

from __future__ import annotations

import msgspec

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Ceilings for one layer, one archive or one image. Sizes are bytes unless the name says otherwise."""

    # streams (hostile 31-40)
    compressed_layer_bytes: int = 20 * GIB
    uncompressed_layer_bytes: int = 40 * GIB
    """Above it the rest is not looked at: PARTIAL(too-large)."""
    compressed_image_bytes: int = 40 * GIB
    uncompressed_image_bytes: int = 80 * GIB
    window_bytes: int = 256 * KIB
    """The most that is inflated at a time."""
    expansion_warn_ratio: int = 200
    """Uncompressed over compressed bytes; above it the layer gets a note, never a refusal."""
    expansion_warn_after_bytes: int = 256 * MIB
    gzip_members: int = 100_000
    gzip_header_bytes: int = 64 * KIB
    zstd_window_bytes: int = 128 * MIB
    zstd_frames: int = 100_000

    # tar (hostile 13, 21, 22, 28, 30)
    layer_entries: int = 4_000_000
    image_entries: int = 8_000_000
    layer_name_bytes: int = 128 * MIB
    """Kept (compressed) bytes of names and link targets of one layer; above it PARTIAL(entry-limit)."""
    extended_header_bytes: int = 1 * MIB
    extended_headers_in_a_row: int = 128
    path_bytes: int = 4_096
    path_depth: int = 2_048
    """Components of one path; nothing deeper fits into path_bytes."""
    sparse_map_bytes: int = 1 * MIB
    sparse_hole_bytes: int = 1 * GIB
    """Zeros that holes of sparse files may expand to in one layer; the content of files beyond it is not read."""
    link_hops: int = 40
    capability_bytes: int = 64
    """A `security.capability` value; the largest the kernel defines has 24 bytes."""
    layer_whiteouts: int = 500_000
    layer_devices: int = 100_000
    layer_capabilities: int = 100_000
    layer_replay_entries: int = 400_000
    """Layers in which members lie below links of the same layer are unpacked in order up to this size; above it, PARTIAL."""
    layer_replay_steps: int = 20_000_000
    """Path components looked at while links of one layer are followed; above it PARTIAL(entry-limit)."""
    layer_notes: int = 1_000
    layer_unread: int = 10_000

    # kept content (decisions 1, hostile 58, 85-88, 95)
    elf_kept_bytes: int = 64 * MIB
    layer_elf_files: int = 50_000
    """Distinct ELF files of one layer."""
    layer_symbol_bytes: int = 192 * MIB
    """Names of all dynamic symbols of one layer."""
    text_file_bytes: int = 1 * MIB
    layer_text_bytes: int = 16 * MIB
    """All kept text files of one layer together."""
    script_head_bytes: int = 256
    """The kernel's BINPRM_BUF_SIZE (K19)."""
    layer_heads: int = 200_000
    script_bytes: int = 128 * KIB
    """The text of a shell script; that of a longer one is not kept, and it is not followed."""
    layer_script_bytes: int = 16 * MIB
    """The texts of all shell scripts of one layer together; those that come later are not kept."""
    hash_floor_bytes: int = 1 * MIB
    """Regular files of this size or more have their content hashed; ELF files always have."""
    jar_kept_bytes: int = 64 * MIB
    jar_entries: int = 65_535
    jar_directory_bytes: int = 16 * MIB
    jar_inflated_bytes: int = 256 * MIB
    """All that is inflated of one jar and of the jars inside it."""
    jar_natives: int = 256
    jar_nested: int = 2_000
    layer_jars: int = 20_000
    layer_class_bytes: int = 64 * MIB
    """Names of all classes of one layer, in jars and outside."""
    needed: int = 4_096
    search_dirs: int = 256
    version_records: int = 65_535
    symbols: int = 4_000_000
    include_depth: int = 4
    include_files: int = 256

    # documents (hostile 43-49)
    manifest_bytes: int = 8 * MIB
    config_bytes: int = 8 * MIB
    json_depth: int = 64
    index_depth: int = 4
    index_entries: int = 1_000
    layers: int = 500
    layers_warn: int = 127

    # archives (docker save, OCI archives)
    archive_members: int = 100_000
    archive_documents_bytes: int = 64 * MIB
    """All JSON members kept from one archive together."""
