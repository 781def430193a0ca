// Command go-reference checks an archived ledger's tree with the Go team's own transparency-log code,
// golang.org/x/mod/sumdb/{note,tlog}: every checkpoint is a note its verifier key opens and a tree
// tlog.ParseTree reads; every record is proven under the last checkpoint through tlog.TileHashReader over
// the archive's tiles; every checkpoint is consistent with the one before it.
//
// Each line of a checkpoint is by a key of the registry and verifies: one by Ed25519 at least, others by
// ML-DSA-44 with filippo.io/mldsa, the crypto/mldsa of Go 1.27 for older ones.
//
//	go run . ARCHIVE --signers signers.json
//
// With an address it follows a static log of C2SP tlog-tiles instead, straight from a bucket or anything that serves its
// objects: the checkpoint must be consistent with the one it kept in the file of --since, every record from there on is
// proven under it, and it is kept there.
//
//	go run . http://HOST/PREFIX --signers signers.json --since state
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
	"strings"

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
	Signers []signer `json:"signers"`
}

// signer is a key pair, with the indices at which it counts.
type signer struct {
	Algorithm        string `json:"algorithm"`
	PublicKeyPEM     string `json:"public_key_pem"`
	ActivatedIndex   *int64 `json:"activatedIndex"`
	RetiredIndex     *int64 `json:"retiredIndex"`
	CompromisedSince *int64 `json:"compromisedSince"`
}

func (s signer) countsAt(index int64) bool {
	return s.ActivatedIndex != nil && *s.ActivatedIndex <= index &&
		(s.RetiredIndex == nil || index < *s.RetiredIndex) &&
		(s.CompromisedSince == nil || index < *s.CompromisedSince)
}

// keys are a log's: those that verify notes, and of them the ones that sign beside Ed25519.
type keys struct {
	note.Verifiers
	cosigners []*cosigner
}

func main() {
	var report string
	var err error
	switch {
	case len(os.Args) == 4 && os.Args[2] == "--signers":
		report, err = check(os.Args[1], os.Args[3])
	case len(os.Args) == 6 && os.Args[2] == "--signers" && os.Args[4] == "--since":
		report, err = follow(os.Args[1], os.Args[3], os.Args[5])
	default:
		fmt.Fprintln(os.Stderr, "usage: go-reference ARCHIVE --signers signers.json")
		fmt.Fprintln(os.Stderr, "       go-reference http://HOST/PREFIX --signers signers.json --since FILE")
		os.Exit(2)
	}
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
	trees, cosigned, err := readCheckpoints(archive, origin, verifiers)
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
	const report = "%d records proven, %d checkpoints consistent, %d of them signed by ML-DSA-44 too"
	return fmt.Sprintf(report, last.N, len(trees), cosigned), nil
}

func readVerifiers(signers string) (*keys, string, error) {
	data, err := os.ReadFile(signers)
	if err != nil {
		return nil, "", err
	}
	var parsed registry
	if err := json.Unmarshal(data, &parsed); err != nil {
		return nil, "", err
	}
	var list []note.Verifier
	var cosigners []*cosigner
	for _, vkey := range parsed.Ledger.Vkeys {
		verifier, err := newVerifier(vkey)
		if err != nil {
			return nil, "", err
		}
		if verifier.Name() != parsed.Ledger.Origin {
			return nil, "", fmt.Errorf("a vkey of %q", verifier.Name())
		}
		list = append(list, verifier)
		if second, ok := verifier.(*cosigner); ok {
			second.registered = registered(second.key.Bytes(), parsed.Signers)
			cosigners = append(cosigners, second)
		}
	}
	return &keys{note.VerifierList(list...), cosigners}, parsed.Ledger.Origin, nil
}

// readCheckpoints opens every checkpoint, in the order of epochs, and tells how many ML-DSA-44 signed too.
func readCheckpoints(archive, origin string, verifiers *keys) (trees []tlog.Tree, cosigned int, err error) {
	names, err := filepath.Glob(filepath.Join(archive, "checkpoint", "*"))
	if err != nil {
		return nil, 0, err
	}
	if len(names) == 0 {
		return nil, 0, fmt.Errorf("no checkpoint: %w", fs.ErrNotExist)
	}
	sort.Strings(names)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, 0, err
		}
		text, byMLDSA, err := openCheckpoint(data, verifiers, false)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", name, err)
		}
		tree, err := parseCheckpoint(text, origin)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", name, err)
		}
		if len(trees) > 0 && tree.N <= trees[len(trees)-1].N {
			return nil, 0, fmt.Errorf("%s: size %d does not grow", name, tree.N)
		}
		trees = append(trees, tree)
		if byMLDSA {
			cosigned++
		}
	}
	return trees, cosigned, nil
}

// openCheckpoint gives the text of a checkpoint as an archive may hold it: signed by Ed25519, by ML-DSA-44 where that is
// due, and every line by a key that is known, each key's once; with witnesses there may be others.
func openCheckpoint(data []byte, verifiers *keys, witnesses bool) (text string, byMLDSA bool, err error) {
	opened, err := note.Open(data, verifiers)
	if err != nil {
		return "", false, err
	}
	// What note.Open does not verify it passes over: strangers' lines, and further ones of a key.
	if lines := strings.Count(string(data[len(opened.Text)+1:]), "\n"); lines != len(opened.Sigs) && !witnesses {
		return "", false, fmt.Errorf("%d of its %d lines are not the log's, or repeat one", lines-len(opened.Sigs), lines)
	}
	byEd25519 := false
	for _, signature := range opened.Sigs {
		verifier, err := verifiers.Verifier(signature.Name, signature.Hash)
		if err != nil {
			return "", false, err
		}
		if _, ok := verifier.(*cosigner); ok {
			byMLDSA = true
		} else {
			byEd25519 = true
		}
	}
	if !byEd25519 {
		return "", false, errors.New("not signed by Ed25519")
	}
	if err := verifiers.checkDue(opened); err != nil {
		return "", false, err
	}
	return opened.Text, byMLDSA, nil
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
	return checkRecords(name, bundle, number, last, reader)
}

func checkRecords(name string, bundle []byte, number int64, last tlog.Tree, reader tlog.HashReader) error {
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
