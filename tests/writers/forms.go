// For each line of JSON on standard input, SHA-256 of three forms that encoding/json makes of it: safe in HTML with
// numbers as doubles, the same with numbers as written, and without HTML escapes.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
)

func form(line []byte, asWritten, html bool) string {
	decoder := json.NewDecoder(bytes.NewReader(line))
	if asWritten {
		decoder.UseNumber()
	}
	var value any
	if err := decoder.Decode(&value); err != nil {
		panic(err)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(html)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(bytes.TrimSuffix(out.Bytes(), []byte("\n"))))
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<16), 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines.Scan() {
		fmt.Fprintln(out, form(lines.Bytes(), false, true), form(lines.Bytes(), true, true), form(lines.Bytes(), false, false))
	}
	if err := lines.Err(); err != nil {
		panic(err)
	}
}
