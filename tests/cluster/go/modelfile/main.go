// Modelfile reads a Modelfile as Ollama does, with its own parser, and says what it would make of it.
//
// usage: modelfile FILE < MESSAGES, a JSON list of {"role", "content"}. It prints, as JSON, the
// parameters, the names of the files that would be imported, and the prompt for the messages.
package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/parser"
	"github.com/ollama/ollama/template"
)

type made struct {
	Parameters map[string]any `json:"parameters"`
	Files      []string       `json:"files"`
	Prompt     string         `json:"prompt"`
}

func main() {
	found, err := read(os.Args[1])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func read(path string) (*made, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	modelfile, err := parser.ParseFile(file)
	if err != nil {
		return nil, err
	}
	request, err := modelfile.CreateRequest(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	prompt, err := prompt(request)
	if err != nil {
		return nil, err
	}
	files := []string{}
	for name := range request.Files {
		files = append(files, filepath.Base(name))
	}
	slices.Sort(files)
	return &made{request.Parameters, files, prompt}, nil
}

// prompt is what the model is asked: the system message comes first where the messages have none.
func prompt(request *api.CreateRequest) (string, error) {
	var messages []api.Message
	if err := json.NewDecoder(os.Stdin).Decode(&messages); err != nil {
		return "", err
	}
	if messages[0].Role != "system" && request.System != "" {
		messages = append([]api.Message{{Role: "system", Content: request.System}}, messages...)
	}
	parsed, err := template.Parse(request.Template)
	if err != nil {
		return "", err
	}
	var written strings.Builder
	err = parsed.Execute(&written, template.Values{Messages: messages})
	return written.String(), err
}
