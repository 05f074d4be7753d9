// Lists tar streams as Go's archive/tar reads them, for comparison with analyzers/tar.
//
// Input: any number of (8-byte little-endian length, tar bytes). Output: one JSON line a tar, with every
// member's fields as hexadecimal text or numbers, and whether the reader ended with an error. Content is read,
// as container runtimes read it, so that errors of sparse files show.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
)

type member struct {
	Name, Link       string
	Type             byte
	Size, Mode       int64
	Uid, Gid         int
	Major, Minor     int64
	Capability, Body string
}

type listing struct {
	Members []member
	Error   string
}

const largest = 1 << 20

func list(body []byte) (out listing) {
	out.Members = []member{}
	reader := tar.NewReader(struct{ io.Reader }{bytes.NewReader(body)})
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			out.Error = err.Error()
			return out
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		item := member{
			Name: hex.EncodeToString([]byte(header.Name)), Link: hex.EncodeToString([]byte(header.Linkname)),
			Type: header.Typeflag, Size: header.Size, Mode: header.Mode, Uid: header.Uid, Gid: header.Gid,
			Major: header.Devmajor, Minor: header.Devminor,
			Capability: hex.EncodeToString([]byte(header.PAXRecords["SCHILY.xattr.security.capability"])),
		}
		if header.Size <= largest {
			hash := sha256.New()
			if _, err := io.Copy(hash, reader); err != nil {
				out.Members = append(out.Members, item)
				out.Error = err.Error()
				return out
			}
			item.Body = hex.EncodeToString(hash.Sum(nil))
		}
		out.Members = append(out.Members, item)
	}
}

func main() {
	input := bufio.NewReader(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	for {
		var size uint64
		if err := binary.Read(input, binary.LittleEndian, &size); err != nil {
			return
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(input, body); err != nil {
			panic(err)
		}
		if err := output.Encode(list(body)); err != nil {
			panic(err)
		}
	}
}
