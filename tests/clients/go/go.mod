module kmsclient

go 1.19

require (
	github.com/aws/aws-sdk-go-v2 v1.24.1
	github.com/aws/aws-sdk-go-v2/service/kms v1.27.9
	github.com/aws/smithy-go v1.19.0
	golang.org/x/crypto v0.17.0
)

require (
	github.com/aws/aws-sdk-go-v2/internal/configsources v1.2.10 // indirect
	github.com/aws/aws-sdk-go-v2/internal/endpoints/v2 v2.5.10 // indirect
	golang.org/x/sys v0.15.0 // indirect
)
