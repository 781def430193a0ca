package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"filippo.io/mldsa"
	"golang.org/x/mod/sumdb/note"
)

// typeMLDSA44 is the type of such a key in C2SP signed-note.
const typeMLDSA44 = 0x06

// cosigner is a log's key for ML-DSA-44, a note.Verifier. It signs what a checkpoint says and when, in the
// form of C2SP tlog-cosignature, and no other note; so other notes do not verify.
type cosigner struct {
	name string
	hash uint32
	key  *mldsa.PublicKey
	// registered are the signers of the registry that have this key.
	registered []signer
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }

// Verify takes the time, eight bytes below 2^63, and the signature behind it.
func (c *cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+mldsa.MLDSA44().SignatureSize() || signature[0] > 0x7f {
		return false
	}
	message, err := c.message(string(text), signature[:8])
	return err == nil && mldsa.Verify(c.key, message, signature[8:], nil) == nil
}

// message is the structure that is signed: label, name of the cosigner, time, origin of the log, the range of
// leaves and its root.
func (c *cosigner) message(text string, time []byte) ([]byte, error) {
	origin, _, _ := strings.Cut(text, "\n")
	tree, err := parseCheckpoint(text, origin)
	if err != nil {
		return nil, err
	}
	var message bytes.Buffer
	message.WriteString("subtree/v1\n\x00")
	message.WriteByte(byte(len(c.name)))
	message.WriteString(c.name)
	message.Write(time)
	message.WriteByte(byte(len(origin)))
	message.WriteString(origin)
	numbers := make([]byte, 16)
	binary.BigEndian.PutUint64(numbers[8:], uint64(tree.N))
	message.Write(numbers)
	message.Write(tree.Hash[:])
	if len(c.name) > 255 || len(origin) > 255 {
		return nil, errors.New("a name of more than 255 bytes")
	}
	return message.Bytes(), nil
}

// newVerifier reads a log's vkey: of Ed25519 as x/mod does, of ML-DSA-44 here.
func newVerifier(vkey string) (note.Verifier, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	id, material, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.Strict().DecodeString(material)
	if err != nil || len(raw) == 0 || raw[0] != typeMLDSA44 {
		return note.NewVerifier(vkey)
	}
	hash := sha256.Sum256(append([]byte(name+"\n"), raw...))
	if name == "" || id != fmt.Sprintf("%x", hash[:4]) {
		return nil, errors.New("a vkey whose key id is another key's")
	}
	key, err := mldsa.NewPublicKey(mldsa.MLDSA44(), raw[1:])
	if err != nil {
		return nil, err
	}
	return &cosigner{name: name, hash: binary.BigEndian.Uint32(hash[:4]), key: key}, nil
}

// registered gives the signers that have this key, which ends their SPKI.
func registered(key []byte, signers []signer) []signer {
	var found []signer
	for _, signer := range signers {
		block, _ := pem.Decode([]byte(signer.PublicKeyPEM))
		if signer.Algorithm == "ml-dsa-44" && block != nil && bytes.HasSuffix(block.Bytes, key) {
			found = append(found, signer)
		}
	}
	return found
}

// checkDue refuses a checkpoint at whose last entry some of the log's ML-DSA-44 keys were active, and that bears no
// line by one of those.
func (k *keys) checkDue(opened *note.Note) error {
	origin, _, _ := strings.Cut(opened.Text, "\n")
	tree, err := parseCheckpoint(opened.Text, origin)
	if err != nil {
		return err
	}
	due := false
	for _, second := range k.cosigners {
		for _, signer := range second.registered {
			if !signer.countsAt(tree.N - 1) {
				continue
			}
			due = true
			for _, signature := range opened.Sigs {
				if signature.Hash == second.hash {
					return nil
				}
			}
		}
	}
	if due {
		return errors.New("lacks the signature by ML-DSA-44 that is due")
	}
	return nil
}
