// Command go-reference checks an archived ledger's tree with the Go team's own transparency-log code,
// golang.org/x/mod/sumdb/{note,tlog}: every checkpoint is a note its verifier key opens and a tree
// tlog.ParseTree reads; every record is proven under the last checkpoint through tlog.TileHashReader over
// the archive's tiles; every checkpoint is consistent with the one before it.
//
//	go run . ARCHIVE --signers signers.json
//
// Exit 0 valid, 1 bad, 2 usage, 3 evidence missing. It knows nothing of events, chains and signatures.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// tileHeight is that of C2SP tlog-tiles: 256 hashes a tile.
const tileHeight = 8

type registry struct {
	Ledger struct {
		Origin string   `json:"origin"`
		Vkeys  []string `json:"vkeys"`
	} `json:"ledger"`
}

func main() {
	if len(os.Args) != 4 || os.Args[2] != "--signers" {
		fmt.Fprintln(os.Stderr, "usage: go-reference ARCHIVE --signers signers.json")
		os.Exit(2)
	}
	report, err := check(os.Args[1], os.Args[3])
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Println("missing:", err)
		os.Exit(3)
	case err != nil:
		fmt.Println("bad:", err)
		os.Exit(1)
	}
	fmt.Println(report)
}

func check(archive, signers string) (string, error) {
	verifiers, origin, err := readVerifiers(signers)
	if err != nil {
		return "", err
	}
	trees, err := readCheckpoints(archive, origin, verifiers)
	if err != nil {
		return "", err
	}
	last := trees[len(trees)-1]
	tiles := &folder{archive: archive, size: last.N, read: map[tlog.Tile][]byte{}}
	reader := tlog.TileHashReader(last, tiles)
	for i, older := range trees[:len(trees)-1] {
		proof, err := tlog.ProveTree(last.N, older.N, reader)
		if err != nil {
			return "", fmt.Errorf("checkpoint %d: %w", i, err)
		}
		if err := tlog.CheckTree(proof, last.N, last.Hash, older.N, older.Hash); err != nil {
			return "", fmt.Errorf("checkpoint %d: %w", i, err)
		}
	}
	for number := int64(0); number*256 < last.N; number++ {
		if err := checkBundle(tiles, number, last, reader); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d records proven, %d checkpoints consistent", last.N, len(trees)), nil
}

func readVerifiers(signers string) (note.Verifiers, string, error) {
	data, err := os.ReadFile(signers)
	if err != nil {
		return nil, "", err
	}
	var parsed registry
	if err := json.Unmarshal(data, &parsed); err != nil {
		return nil, "", err
	}
	var list []note.Verifier
	for _, vkey := range parsed.Ledger.Vkeys {
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			return nil, "", err
		}
		list = append(list, verifier)
	}
	return note.VerifierList(list...), parsed.Ledger.Origin, nil
}

// readCheckpoints opens every checkpoint, in the order of epochs.
func readCheckpoints(archive, origin string, verifiers note.Verifiers) ([]tlog.Tree, error) {
	names, err := filepath.Glob(filepath.Join(archive, "checkpoint", "*"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no checkpoint: %w", fs.ErrNotExist)
	}
	sort.Strings(names)
	var trees []tlog.Tree
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		opened, err := note.Open(data, verifiers)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		tree, err := parseCheckpoint(opened.Text, origin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(trees) > 0 && tree.N <= trees[len(trees)-1].N {
			return nil, fmt.Errorf("%s: size %d does not grow", name, tree.N)
		}
		trees = append(trees, tree)
	}
	return trees, nil
}

// parseCheckpoint reads the three lines of a checkpoint: those of a Go checksum database's tree, but for
// the first, which here is the ledger's origin.
func parseCheckpoint(text, origin string) (tlog.Tree, error) {
	const first = "go.sum database tree\n"
	if len(text) <= len(origin) || text[:len(origin)+1] != origin+"\n" {
		return tlog.Tree{}, fmt.Errorf("not of %s", origin)
	}
	return tlog.ParseTree([]byte(first + text[len(origin)+1:]))
}

// checkBundle proves every record of one bundle under the last checkpoint.
func checkBundle(tiles *folder, number int64, last tlog.Tree, reader tlog.HashReader) error {
	name := tiles.entries(number)
	bundle, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for id := number * 256; id < last.N && id < (number+1)*256; id++ {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			return fmt.Errorf("%s: truncated at record %d", name, id)
		}
		length := int(binary.BigEndian.Uint16(bundle))
		record := bundle[2 : 2+length]
		bundle = bundle[2+length:]
		proof, err := tlog.ProveRecord(last.N, id, reader)
		if err != nil {
			return fmt.Errorf("record %d: %w", id, err)
		}
		if err := tlog.CheckRecord(proof, last.N, last.Hash, id, tlog.RecordHash(record)); err != nil {
			return fmt.Errorf("record %d: %w", id, err)
		}
	}
	if len(bundle) != 0 {
		return fmt.Errorf("%s: %d bytes too many", name, len(bundle))
	}
	return nil
}
