package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"backbone/transforms/lake"
	"backbone/transforms/run"
)

// noteName is the note that a launch makes of its graph, in the lake.
const noteName = "graph.json"

// Save notes the steps of a launch in its lake, for who wants to take its place.
func Save(ctx context.Context, lakeURL, runID string, steps []string) error {
	body, err := json.MarshalIndent(steps, "", " ")
	if err != nil {
		return err
	}
	st, err := lake.OpenStore(ctx, run.Of(runID), lakeURL)
	if err != nil {
		return err
	}
	return lake.Note(ctx, st, runID, noteName, body)
}

// Saved returns to a launch the steps that another has noted in the same lake.
func Saved(ctx context.Context, lakeURL, runID, other string) (steps []string, err error) {
	st, err := lake.OpenStore(ctx, run.Of(runID), lakeURL)
	if err != nil {
		return nil, err
	}
	body, err := lake.NoteOf(ctx, st, other, noteName)
	if err == nil {
		err = json.Unmarshal(body, &steps)
	}
	if err != nil {
		return nil, fmt.Errorf("the graph of run %s: %w", other, err)
	}
	return steps, nil
}

// Brief puts the first of some lines into one.
func Brief(lines []string) string {
	const most = 6
	text := strings.Join(lines[:min(len(lines), most)], "; ")
	if len(lines) > most {
		text += fmt.Sprintf("; and %d more", len(lines)-most)
	}
	return text
}
