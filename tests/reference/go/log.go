package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// objectBytesMax is more than a bundle of 256 records of 65,535 bytes.
const objectBytesMax = 32 << 20

// staticLog serves the tiles of a tlog-tiles log over HTTP to tlog.TileHashReader. It makes nothing up: a partial
// tile must be there.
type staticLog struct {
	url  string
	read map[tlog.Tile][]byte
}

func (l *staticLog) Height() int { return tileHeight }

func (l *staticLog) SaveTiles([]tlog.Tile, [][]byte) {}

func (l *staticLog) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		if l.read[tile] == nil {
			name := fmt.Sprintf("tile/%d/%s", tile.L, path(tile.N))
			if tile.W != 1<<tileHeight {
				name += fmt.Sprintf(".p/%d", tile.W)
			}
			got, err := l.get(name)
			if err != nil {
				return nil, err
			}
			l.read[tile] = got
		}
		data[i] = l.read[tile]
	}
	return data, nil
}

func (l *staticLog) get(name string) ([]byte, error) {
	answer, err := http.Get(l.url + "/" + name)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	default:
		return nil, fmt.Errorf("%s: %s", name, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, objectBytesMax))
}

// follow reads the log at url to the end of its checkpoint, which must be consistent with the one in the file state,
// if there is one, and is kept there.
func follow(url, signers, state string) (string, error) {
	verifiers, origin, err := readVerifiers(signers)
	if err != nil {
		return "", err
	}
	log := &staticLog{url: strings.TrimSuffix(url, "/"), read: map[tlog.Tile][]byte{}}
	data, err := log.get("checkpoint")
	if err != nil {
		return "", err
	}
	text, _, err := openCheckpoint(data, verifiers, true)
	if err != nil {
		return "", err
	}
	now, err := parseCheckpoint(text, origin)
	if err != nil {
		return "", err
	}
	reader := tlog.TileHashReader(now, log)
	before, err := readState(state)
	if err != nil {
		return "", err
	}
	if before.N > now.N {
		return "", fmt.Errorf("it went back from %d to %d", before.N, now.N)
	}
	if before.N > 0 {
		proof, err := tlog.ProveTree(now.N, before.N, reader)
		if err != nil {
			return "", err
		}
		if err := tlog.CheckTree(proof, now.N, now.Hash, before.N, before.Hash); err != nil {
			return "", err
		}
	}
	for number := before.N / 256; number*256 < now.N; number++ {
		name := "tile/entries/" + path(number)
		if number == now.N/256 {
			name += fmt.Sprintf(".p/%d", now.N%256)
		}
		bundle, err := log.get(name)
		if err != nil {
			return "", err
		}
		if err := checkRecords(name, bundle, number, now, reader); err != nil {
			return "", err
		}
	}
	kept := fmt.Sprintf("%d %s\n", now.N, base64.StdEncoding.EncodeToString(now.Hash[:]))
	if err := os.WriteFile(filepath.Clean(state), []byte(kept), 0o600); err != nil {
		return "", err
	}
	return fmt.Sprintf("followed from %d to %d", before.N, now.N), nil
}

// readState gives the tree that was followed before; an empty one if there is none.
func readState(state string) (tlog.Tree, error) {
	data, err := os.ReadFile(state)
	if errors.Is(err, fs.ErrNotExist) {
		return tlog.Tree{}, nil
	}
	if err != nil {
		return tlog.Tree{}, err
	}
	fields := strings.Fields(string(data))
	if len(fields) != 2 {
		return tlog.Tree{}, fmt.Errorf("%s is no state", state)
	}
	size, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	hash, err := tlog.ParseHash(fields[1])
	return tlog.Tree{N: size, Hash: hash}, err
}
