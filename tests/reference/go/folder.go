package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// folder serves an archive's tiles to tlog.TileHashReader, which checks each against the signed root. The
// archive holds full tiles only; partial ones, of which there is at most one a level, follow from what is
// below them: level 0 from the last bundle's records, others from the tiles one level down.
type folder struct {
	archive string
	size    int64
	// read holds every tile read or made: 32 bytes a record.
	read map[tlog.Tile][]byte
}

func (f *folder) Height() int { return tileHeight }

func (f *folder) SaveTiles([]tlog.Tile, [][]byte) {}

func (f *folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		if f.read[tile] == nil {
			made, err := f.tile(tile)
			if err != nil {
				return nil, err
			}
			f.read[tile] = made
		}
		data[i] = f.read[tile]
	}
	return data, nil
}

func (f *folder) tile(tile tlog.Tile) ([]byte, error) {
	if tile.W == 1<<tileHeight {
		data, err := os.ReadFile(filepath.Join(f.archive, fmt.Sprintf("tile/%d/%s", tile.L, path(tile.N))))
		if err == nil && len(data) != 256*tlog.HashSize {
			err = fmt.Errorf("%s has %d bytes", tile.Path(), len(data))
		}
		return data, err
	}
	if tile.L == 0 {
		return f.leaves(tile)
	}
	var data []byte
	for i := 0; i < tile.W; i++ {
		below := tlog.Tile{H: tileHeight, L: tile.L - 1, N: tile.N<<tileHeight + int64(i), W: 1 << tileHeight}
		hashes, err := f.tile(below)
		if err != nil {
			return nil, err
		}
		root := tileRoot(hashes)
		data = append(data, root[:]...)
	}
	return data, nil
}

// tileRoot is the node over a full tile.
func tileRoot(tile []byte) tlog.Hash {
	nodes := make([]tlog.Hash, len(tile)/tlog.HashSize)
	for i := range nodes {
		copy(nodes[i][:], tile[i*tlog.HashSize:])
	}
	for len(nodes) > 1 {
		for i := range nodes[:len(nodes)/2] {
			nodes[i] = tlog.NodeHash(nodes[2*i], nodes[2*i+1])
		}
		nodes = nodes[:len(nodes)/2]
	}
	return nodes[0]
}

// leaves makes a partial level-0 tile from the records of a bundle.
func (f *folder) leaves(tile tlog.Tile) ([]byte, error) {
	bundle, err := os.ReadFile(f.entries(tile.N))
	if err != nil {
		return nil, err
	}
	var data []byte
	for i := 0; i < tile.W; i++ {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			return nil, fmt.Errorf("bundle %d is truncated", tile.N)
		}
		end := 2 + int(binary.BigEndian.Uint16(bundle))
		hash := tlog.RecordHash(bundle[2:end])
		data, bundle = append(data, hash[:]...), bundle[end:]
	}
	return data, nil
}

// entries is the file with a bundle's records: the full bundle, or the last checkpoint's tail bundle.
func (f *folder) entries(number int64) string {
	name := filepath.Join(f.archive, "tile", "entries", filepath.FromSlash(path(number)))
	if number == f.size/256 {
		name += fmt.Sprintf(".p/%d", f.size%256)
	}
	return name
}

// path writes a number in groups of three digits, all but the last with an x before them.
func path(number int64) string {
	groups := []string{fmt.Sprintf("%03d", number%1000)}
	for number /= 1000; number > 0; number /= 1000 {
		groups = append([]string{fmt.Sprintf("x%03d", number%1000)}, groups...)
	}
	return strings.Join(groups, "/")
}
