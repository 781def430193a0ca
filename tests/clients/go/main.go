// AWS KMS by aws-sdk-go-v2, unmodified: signs with every key it is given, verifies, and is refused.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"golang.org/x/crypto/sha3"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func say(told map[string]any) { fmt.Println(string(must(json.Marshal(told)))) }

func refused[T any](code string, _ T, err error) {
	var told smithy.APIError
	if !errors.As(err, &told) || told.ErrorCode() != code {
		must(0, fmt.Errorf("%v in place of %s", err, code))
	}
	say(map[string]any{"refused": code})
}

func client() *kms.Client {
	config := aws.Config{Region: "eu-central-1", Credentials: aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "any", SecretAccessKey: "any"}, nil
		})}
	if file := os.Getenv("KMS_CERT"); file != "" {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(must(os.ReadFile(os.Getenv("KMS_CA"))))
		pair := must(tls.LoadX509KeyPair(file, os.Getenv("KMS_KEY")))
		settings := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
		config.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: settings}}
	}
	return kms.NewFromConfig(config, func(options *kms.Options) {
		options.BaseEndpoint = aws.String(os.Getenv("KMS_URL"))
		if attempts, err := strconv.Atoi(os.Getenv("KMS_ATTEMPTS")); err == nil {
			options.RetryMaxAttempts = attempts
		}
	})
}

func plain() *kms.SignInput {
	return &kms.SignInput{KeyId: aws.String("alias/p256"), Message: []byte("m"), SigningAlgorithm: "ECDSA_SHA_256"}
}

// Asked for as fast as it goes: with one attempt a throttle is told, with more the SDK waits and gets through.
func throttled(ctx context.Context, service *kms.Client) {
	var told any
	for turn := 0; turn < 4 && told == nil; turn++ {
		_, err := service.Sign(ctx, plain())
		var problem smithy.APIError
		if errors.As(err, &problem) {
			told = problem.ErrorCode()
		} else {
			must(0, err)
		}
	}
	say(map[string]any{"told": told})
}

// What FIPS 204 makes of a message, algorithm 7, line 6: the SDK's names are older than the message type.
func mu(spki []byte, spec types.KeySpec, message []byte) []byte {
	length := 1312
	if spec == "ML_DSA_65" {
		length = 1952
	}
	key, made := make([]byte, 64), make([]byte, 64)
	sha3.ShakeSum256(key, spki[len(spki)-length:])
	sha3.ShakeSum256(made, append(append(key, 0, 0), message...))
	return made
}

func main() {
	ctx, service := context.Background(), client()
	if os.Getenv("KMS_ATTEMPTS") != "" {
		throttled(ctx, service)
		return
	}
	if code := os.Getenv("KMS_EXPECT"); code != "" {
		output, err := service.Sign(ctx, plain())
		refused(code, output, err)
		return
	}
	if os.Getenv("KMS_ONCE") != "" {
		output := must(service.Sign(ctx, plain()))
		results, _ := retry.GetAttemptResults(output.ResultMetadata)
		say(map[string]any{"signature": output.Signature, "retries": len(results.Results) - 1})
		return
	}
	for _, name := range os.Args[1:] {
		described := must(service.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/" + name)})).KeyMetadata
		algorithm, arn := described.SigningAlgorithms[0], described.Arn
		public := must(service.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: arn})).PublicKey
		message := []byte("a message for " + name)
		kinds := map[types.MessageType][]byte{types.MessageTypeRaw: message}
		if spec := string(algorithm); strings.HasPrefix(spec, "ECDSA") || strings.HasPrefix(spec, "RSASSA") {
			digest := sha256.Sum256(message)
			kinds[types.MessageTypeDigest] = digest[:]
			if strings.HasSuffix(spec, "384") {
				longer := sha512.Sum384(message)
				kinds[types.MessageTypeDigest] = longer[:]
			}
		} else if spec == "ML_DSA_SHAKE_256" {
			kinds["EXTERNAL_MU"] = mu(public, described.KeySpec, message)
		}
		for kind, given := range kinds {
			reply := must(service.Sign(ctx, &kms.SignInput{
				KeyId: arn, Message: given, MessageType: kind, SigningAlgorithm: algorithm}))
			check := func(message []byte) (*kms.VerifyOutput, error) {
				return service.Verify(ctx, &kms.VerifyInput{KeyId: arn, Message: message, MessageType: kind,
					Signature: reply.Signature, SigningAlgorithm: algorithm})
			}
			if !must(check(given)).SignatureValid {
				must(0, fmt.Errorf("%s does not verify", name))
			}
			other := append([]byte{given[0] ^ 1}, given[1:]...)
			output, err := check(other)
			refused("KMSInvalidSignatureException", output, err)
			say(map[string]any{"key": name, "algorithm": algorithm, "kind": kind, "message": given,
				"signature": reply.Signature, "public": public})
		}
	}
	with := func(change func(*kms.SignInput)) (*kms.SignOutput, error) {
		changed := plain()
		change(changed)
		return service.Sign(ctx, changed)
	}
	for code, change := range map[string]func(*kms.SignInput){
		"NotFoundException":        func(in *kms.SignInput) { in.KeyId = aws.String("alias/absent") },
		"InvalidKeyUsageException": func(in *kms.SignInput) { in.KeyId = aws.String("alias/mac") },
		"ValidationException":      func(in *kms.SignInput) { in.MessageType = types.MessageTypeDigest },
		"DryRunOperationException": func(in *kms.SignInput) { in.DryRun = aws.Bool(true) },
	} {
		output, err := with(change)
		refused(code, output, err)
	}
	say(map[string]any{"done": true})
}
