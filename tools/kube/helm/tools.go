//go:build tools

// Package tools names the command that build.ts builds, so that `go mod tidy` keeps its checksums.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
