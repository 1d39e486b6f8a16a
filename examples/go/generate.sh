#!/bin/sh
# Makes glasslogv1/, the Go package of the calls and messages, from the .proto files. Needs go and protoc.
set -e
cd "$(dirname "$0")"
go build -o bin/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
cd ../../proto
here=../examples/go
options=module=glasslog.example
for file in glasslog/v1/*.proto; do options=$options,M$file=glasslog.example/glasslogv1; done
protoc --plugin=$here/bin/protoc-gen-go --plugin=$here/bin/protoc-gen-go-grpc -I . \
  --go_out="$options:$here" --go-grpc_out="$options:$here" glasslog/v1/*.proto
