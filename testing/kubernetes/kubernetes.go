// Package kubernetes has the schemas of objects of Kubernetes, so that tests see whether it takes a manifest as it is. There is no cluster.
package kubernetes

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed testdata/flinkdeployments.flink.apache.org-v1.yml.gz
var deployments []byte

// Object is any object of Kubernetes.
type Object = map[string]any

// Read returns the objects of the manifests that a pattern matches, by "kind name".
func Read(t testing.TB, pattern string) map[string]Object {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("manifests %v, error %v", paths, err)
	}
	all := map[string]Object{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		add(t, all, path, text)
	}
	return all
}

// Parse is Read of a text. Path is what errors call it.
func Parse(t testing.TB, path string, text []byte) map[string]Object {
	t.Helper()
	all := map[string]Object{}
	add(t, all, path, text)
	return all
}

// add adds the objects of a manifest to those that there are.
func add(t testing.TB, all map[string]Object, path string, text []byte) {
	t.Helper()
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o Object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		metadata, _ := o["metadata"].(Object)
		name := metadata["name"]
		if name == nil {
			name = metadata["generateName"]
		}
		key := fmt.Sprint(o["kind"], " ", name)
		if all[key] != nil {
			t.Errorf("%s: there are two of %s", path, key)
		}
		all[key] = o
	}
}

// At returns what is at a path of an object, nil if there is nothing.
func At(o any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := o.(Object)
			o = m[step]
		case int:
			list, _ := o.([]any)
			if step >= len(list) {
				return nil
			}
			o = list[step]
		}
	}
	return o
}

// definition is the schema of FlinkDeployment, as the operator gives it to Kubernetes.
func definition(t testing.TB) Object {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(deployments))
	if err != nil {
		t.Fatal(err)
	}
	var crd Object
	if err := yaml.NewDecoder(unzipped).Decode(&crd); err != nil {
		t.Fatal(err)
	}
	for _, version := range At(crd, "spec", "versions").([]any) {
		if At(version, "name") == "v1beta1" {
			return At(version, "schema", "openAPIV3Schema").(Object)
		}
	}
	t.Fatal("the definition has no version v1beta1")
	return nil
}

// strict makes a schema refuse fields that it does not know, which Kubernetes would leave out in silence.
func strict(schema any) {
	switch s := schema.(type) {
	case Object:
		if _, known := s["properties"].(Object); known && s["additionalProperties"] == nil && s["x-kubernetes-preserve-unknown-fields"] == nil {
			s["additionalProperties"] = false
		}
		for _, part := range s {
			strict(part)
		}
	case []any:
		for _, part := range s {
			strict(part)
		}
	}
}

func compile(t testing.TB, schema any) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("mem:///schema.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("mem:///schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// Schemas returns those of the kinds that this repository has manifests of. They refuse fields that they do not know. A pod is the same in all of them: the definition of a FlinkDeployment has it in full.
func Schemas(t testing.TB) map[string]*jsonschema.Schema {
	t.Helper()
	deployment := definition(t)
	properties := At(deployment, "properties").(Object)
	constant := func(value any) Object { return Object{"const": value} }
	text, number, labels := Object{"type": "string"}, Object{"type": "integer"}, Object{"type": "object", "additionalProperties": Object{"type": "string"}}
	fields := func(required []string, properties Object) Object {
		all := make([]any, len(required))
		for i, r := range required {
			all[i] = r
		}
		return Object{"type": "object", "required": all, "properties": properties}
	}
	list := func(of Object) Object { return Object{"type": "array", "minItems": 1, "items": of} }
	metadata := Object{
		"type": "object", "properties": Object{"name": text, "generateName": text, "namespace": text, "labels": labels},
		"oneOf": []any{Object{"required": []any{"name"}}, Object{"required": []any{"generateName"}}},
	}
	top := func(version, kind string, spec Object) Object {
		return fields([]string{"apiVersion", "kind", "metadata", "spec"}, Object{"apiVersion": constant(version), "kind": constant(kind), "metadata": metadata, "spec": spec})
	}
	pod := At(deployment, "properties", "spec", "properties", "podTemplate").(Object)
	port := Object{"anyOf": []any{Object{"type": "string", "pattern": "^[a-z-]{1,15}$"}, Object{"type": "integer", "minimum": 1, "maximum": 65535}}}
	selector := fields(nil, Object{"matchLabels": labels, "matchExpressions": list(fields([]string{"key", "operator"}, Object{
		"key": text, "operator": Object{"enum": []any{"In", "NotIn", "Exists", "DoesNotExist"}}, "values": list(text),
	}))})
	properties["apiVersion"], properties["kind"], properties["metadata"] = constant("flink.apache.org/v1beta1"), constant("FlinkDeployment"), metadata
	job := fields([]string{"template"}, Object{"backoffLimit": number, "ttlSecondsAfterFinished": number, "template": pod})
	all := map[string]Object{
		"FlinkDeployment": deployment,
		"CronJob": top("batch/v1", "CronJob", fields([]string{"schedule", "jobTemplate"}, Object{
			"schedule": text, "timeZone": text, "concurrencyPolicy": Object{"enum": []any{"Allow", "Forbid", "Replace"}},
			"successfulJobsHistoryLimit": number, "failedJobsHistoryLimit": number, "startingDeadlineSeconds": number, "suspend": Object{"type": "boolean"},
			"jobTemplate": fields([]string{"spec"}, Object{"metadata": Object{"type": "object"}, "spec": job}),
		})),
		"ConfigMap": fields([]string{"apiVersion", "kind", "metadata", "data"}, Object{
			"apiVersion": constant("v1"), "kind": constant("ConfigMap"), "metadata": metadata, "data": labels,
		}),
		"Deployment": top("apps/v1", "Deployment", fields([]string{"selector", "template"}, Object{
			"replicas": number, "selector": selector, "strategy": fields([]string{"type"}, Object{"type": Object{"enum": []any{"Recreate", "RollingUpdate"}}}), "template": pod,
		})),
		"Job": top("batch/v1", "Job", job),
		"Service": top("v1", "Service", fields([]string{"selector", "ports"}, Object{
			"selector": labels, "ports": list(fields([]string{"port"}, Object{"name": text, "port": number, "targetPort": port})),
		})),
		"NetworkPolicy": top("networking.k8s.io/v1", "NetworkPolicy", fields([]string{"podSelector", "policyTypes", "ingress"}, Object{
			"podSelector": selector, "policyTypes": list(Object{"enum": []any{"Ingress", "Egress"}}),
			"ingress": list(fields([]string{"from", "ports"}, Object{
				"from":  list(fields(nil, Object{"podSelector": selector, "namespaceSelector": selector})),
				"ports": list(fields([]string{"protocol", "port"}, Object{"protocol": Object{"enum": []any{"TCP"}}, "port": port})),
			})),
		})),
	}
	compiled := map[string]*jsonschema.Schema{}
	for kind, schema := range all {
		strict(schema)
		compiled[kind] = compile(t, schema)
	}
	return compiled
}
