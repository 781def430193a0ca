// Reads a registry of keys as the platform's Go services do, and prints `name key` for each entry, the key as base64
// of its SPKI: registry.go SHAPE FILE.
package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
)

type entry struct {
	SignerID  string `json:"signerId"`
	Algorithm string `json:"algorithm"`
	PublicKey string `json:"publicKey"`
	CreatedAt string `json:"createdAt"`
}

func main() {
	text, err := os.ReadFile(os.Args[2])
	check(err)
	if os.Args[1] == "pem" {
		for position := 0; ; position++ {
			block, rest := pem.Decode(text)
			if block == nil {
				return
			}
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			check(err)
			tell(fmt.Sprintf("#%d", position), key)
			text = rest
		}
	}
	var registry struct {
		Signers []entry `json:"signers"`
	}
	check(json.Unmarshal(text, &registry))
	for _, signer := range registry.Signers {
		raw, err := base64.StdEncoding.DecodeString(signer.PublicKey)
		check(err)
		// Another length would panic in ed25519.Verify.
		if len(raw) != ed25519.PublicKeySize {
			check(fmt.Errorf("%s has %d bytes", signer.SignerID, len(raw)))
		}
		if os.Args[1] == "security-status" && (signer.Algorithm != "Ed25519" || signer.CreatedAt == "") {
			check(fmt.Errorf("%+v", signer))
		}
		tell(signer.SignerID, ed25519.PublicKey(raw))
	}
}

func tell(name string, key any) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	check(err)
	fmt.Println(name, base64.StdEncoding.EncodeToString(spki))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
