// Trivy looks for misconfigurations as `trivy config` does, by the checks that are in its module. Its own command
// would be built out of hundreds of modules, for all that it knows besides.
//
// usage: trivy kubernetes|dockerfile FOLDER. It prints, as JSON, how many checks passed, and what those that failed say.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"

	"github.com/aquasecurity/trivy/pkg/iac/rego"
	"github.com/aquasecurity/trivy/pkg/iac/scan"
	"github.com/aquasecurity/trivy/pkg/iac/scanners/dockerfile"
	"github.com/aquasecurity/trivy/pkg/iac/scanners/kubernetes"
	"github.com/aquasecurity/trivy/pkg/iac/scanners/options"
)

type report struct {
	Passed int                 `json:"passed"`
	Failed map[string][]string `json:"failed"`
}

type scanner interface {
	ScanFS(ctx context.Context, files fs.FS, folder string) (scan.Results, error)
}

func main() {
	found, err := look(os.Args[1], os.Args[2])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func look(framework, folder string) (*report, error) {
	scanner, err := scannerOf(framework)
	if err != nil {
		return nil, err
	}
	results, err := scanner.ScanFS(context.Background(), os.DirFS(folder), ".")
	if err != nil {
		return nil, err
	}
	found := &report{len(results.GetPassed()), map[string][]string{}}
	for _, failed := range results.GetFailed() {
		id := failed.Rule().ID
		found.Failed[id] = append(found.Failed[id], failed.Description())
	}
	return found, nil
}

func scannerOf(framework string) (scanner, error) {
	embedded := []options.ScannerOption{rego.WithEmbeddedPolicies(true), rego.WithEmbeddedLibraries(true)}
	switch framework {
	case "kubernetes":
		return kubernetes.NewScanner(embedded...), nil
	case "dockerfile":
		return dockerfile.NewScanner(embedded...), nil
	}
	return nil, fmt.Errorf("it can't look at %s", framework)
}
