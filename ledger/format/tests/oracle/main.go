// Command oracle answers for the Go team's transparency-log code, golang.org/x/mod/sumdb/{note,tlog}, what
// ../oracles.rs asks it about ours.
//
//	oracle small N     for each size 1..N of the tree whose leaf i is i in eight big-endian bytes: its root, and
//	                   the SHA-256 of all its inclusion and of all its consistency proofs
//	oracle check       reads lines "record SIZE ROOT INDEX LEAF PROOF" and "tree SIZE ROOT OLD OLDROOT PROOF",
//	                   hashes in base64, a proof's joined by commas; answers "ok" or why not, line by line
//	oracle open VKEY…  reads a note; tells how many of its signatures these keys verify, and how many are of others
//	oracle sign NAME SEED  reads a text; writes the note that the Ed25519 key of this hex seed makes of it
//
// It knows nothing of our code. Cosignatures (type 0x04) are verified here, since x/mod does not know them.
package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "small":
		return small(args[1])
	case len(args) == 1 && args[0] == "check":
		return check()
	case len(args) > 1 && args[0] == "open":
		return open(args[1:])
	case len(args) == 3 && args[0] == "sign":
		return sign(args[1], args[2])
	}
	return errors.New("usage: oracle small N | check | open VKEY… | sign NAME SEED")
}

func small(text string) error {
	sizes, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return err
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			hashes[i] = stored[index]
		}
		return hashes, nil
	})
	for size := int64(1); size <= sizes; size++ {
		leaf := make([]byte, 8)
		binary.BigEndian.PutUint64(leaf, uint64(size-1))
		hashes, err := tlog.StoredHashes(size-1, leaf, reader)
		if err != nil {
			return err
		}
		stored = append(stored, hashes...)
		root, err := tlog.TreeHash(size, reader)
		if err != nil {
			return err
		}
		inclusion, consistency := sha256.New(), sha256.New()
		for index := int64(0); index < size; index++ {
			record, err := tlog.ProveRecord(size, index, reader)
			if err != nil {
				return err
			}
			for _, hash := range record {
				inclusion.Write(hash[:])
			}
			tree, err := tlog.ProveTree(size, index+1, reader)
			if err != nil {
				return err
			}
			for _, hash := range tree {
				consistency.Write(hash[:])
			}
		}
		fmt.Printf("%x %x %x\n", root[:], inclusion.Sum(nil), consistency.Sum(nil))
	}
	return nil
}

func check() error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := checkLine(strings.Split(lines.Text(), " ")); err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("ok")
		}
	}
	return lines.Err()
}

func checkLine(words []string) error {
	if len(words) != 6 {
		return errors.New("not a line of six words")
	}
	size, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil {
		return err
	}
	root, err := tlog.ParseHash(words[2])
	if err != nil {
		return err
	}
	position, err := strconv.ParseInt(words[3], 10, 64)
	if err != nil {
		return err
	}
	hash, err := tlog.ParseHash(words[4])
	if err != nil {
		return err
	}
	var proof []tlog.Hash
	for _, word := range strings.Split(words[5], ",") {
		if word == "" {
			continue
		}
		sibling, err := tlog.ParseHash(word)
		if err != nil {
			return err
		}
		proof = append(proof, sibling)
	}
	switch words[0] {
	case "record":
		return tlog.CheckRecord(tlog.RecordProof(proof), size, root, position, hash)
	case "tree":
		return tlog.CheckTree(tlog.TreeProof(proof), size, root, position, hash)
	}
	return errors.New("neither record nor tree")
}

func open(vkeys []string) error {
	signed, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var verifiers []note.Verifier
	for _, vkey := range vkeys {
		verifier, err := verifierOf(vkey)
		if err != nil {
			return err
		}
		verifiers = append(verifiers, verifier)
	}
	opened, err := note.Open(signed, note.VerifierList(verifiers...))
	if err != nil {
		return err
	}
	fmt.Printf("%d %d\n", len(opened.Sigs), len(opened.UnverifiedSigs))
	return nil
}

// cosigner verifies signatures of type 0x04 as tlog-cosignature defines them.
type cosigner struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.id }

func (c cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(signature)
	var message bytes.Buffer
	fmt.Fprintf(&message, "cosignature/v1\ntime %d\n%s", seconds, text)
	return ed25519.Verify(c.key, message.Bytes(), signature[8:])
}

func verifierOf(vkey string) (note.Verifier, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	_, material, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.DecodeString(material)
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != 4 {
		return note.NewVerifier(vkey)
	}
	hash := sha256.Sum256(append([]byte(name+"\n"), raw...))
	return cosigner{name, binary.BigEndian.Uint32(hash[:4]), ed25519.PublicKey(raw[1:])}, nil
}

func sign(name, seedHex string) error {
	seed, err := hex.DecodeString(seedHex)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(name, public)
	if err != nil {
		return err
	}
	id := strings.Split(vkey, "+")[1]
	secret := base64.StdEncoding.EncodeToString(append([]byte{1}, seed...))
	signer, err := note.NewSigner("PRIVATE+KEY+" + name + "+" + id + "+" + secret)
	if err != nil {
		return err
	}
	signed, err := note.Sign(&note.Note{Text: string(text)}, signer)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(signed)
	return err
}
