// Package kubernetes tests the manifests of this folder.
package kubernetes

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// object is any object of Kubernetes.
type object = map[string]any

// objects are those of all manifests, by "kind name".
func objects(t *testing.T) map[string]object {
	t.Helper()
	paths, err := filepath.Glob("*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("manifests %v, error %v", paths, err)
	}
	all := map[string]object{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		add(t, all, path, text)
	}
	return all
}

// add adds the objects of a manifest.
func add(t *testing.T, all map[string]object, path string, text []byte) {
	t.Helper()
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		metadata, _ := o["metadata"].(object)
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

// at returns what is at a path of an object, nil if there is nothing.
func at(o any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := o.(object)
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
func definition(t *testing.T) object {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", "flinkdeployments.flink.apache.org-v1.yml.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var crd object
	if err := yaml.NewDecoder(unzipped).Decode(&crd); err != nil {
		t.Fatal(err)
	}
	for _, version := range at(crd, "spec", "versions").([]any) {
		if at(version, "name") == "v1beta1" {
			return at(version, "schema", "openAPIV3Schema").(object)
		}
	}
	t.Fatal("the definition has no version v1beta1")
	return nil
}

// strict makes a schema refuse fields that it does not know, which Kubernetes would leave out in silence.
func strict(schema any) {
	switch s := schema.(type) {
	case object:
		if _, known := s["properties"].(object); known && s["additionalProperties"] == nil && s["x-kubernetes-preserve-unknown-fields"] == nil {
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

func compile(t *testing.T, schema any) *jsonschema.Schema {
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

// schemas are those of this folder's kinds. A pod is the same in all of them: the definition of a FlinkDeployment has it in full.
func schemas(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	deployment := definition(t)
	properties := at(deployment, "properties").(object)
	constant := func(value any) object { return object{"const": value} }
	text, number, labels := object{"type": "string"}, object{"type": "integer"}, object{"type": "object", "additionalProperties": object{"type": "string"}}
	fields := func(required []string, properties object) object {
		all := make([]any, len(required))
		for i, r := range required {
			all[i] = r
		}
		return object{"type": "object", "required": all, "properties": properties}
	}
	list := func(of object) object { return object{"type": "array", "minItems": 1, "items": of} }
	metadata := object{
		"type": "object", "properties": object{"name": text, "generateName": text, "namespace": text, "labels": labels},
		"oneOf": []any{object{"required": []any{"name"}}, object{"required": []any{"generateName"}}},
	}
	top := func(version, kind string, spec object) object {
		return fields([]string{"apiVersion", "kind", "metadata", "spec"}, object{"apiVersion": constant(version), "kind": constant(kind), "metadata": metadata, "spec": spec})
	}
	pod := at(deployment, "properties", "spec", "properties", "podTemplate").(object)
	port := object{"anyOf": []any{object{"type": "string", "pattern": "^[a-z-]{1,15}$"}, object{"type": "integer", "minimum": 1, "maximum": 65535}}}
	selector := fields(nil, object{"matchLabels": labels, "matchExpressions": list(fields([]string{"key", "operator"}, object{
		"key": text, "operator": object{"enum": []any{"In", "NotIn", "Exists", "DoesNotExist"}}, "values": list(text),
	}))})
	properties["apiVersion"], properties["kind"], properties["metadata"] = constant("flink.apache.org/v1beta1"), constant("FlinkDeployment"), metadata
	job := fields([]string{"template"}, object{"backoffLimit": number, "ttlSecondsAfterFinished": number, "template": pod})
	all := map[string]object{
		"FlinkDeployment": deployment,
		"CronJob": top("batch/v1", "CronJob", fields([]string{"schedule", "jobTemplate"}, object{
			"schedule": text, "timeZone": text, "concurrencyPolicy": object{"enum": []any{"Allow", "Forbid", "Replace"}},
			"successfulJobsHistoryLimit": number, "failedJobsHistoryLimit": number, "startingDeadlineSeconds": number, "suspend": object{"type": "boolean"},
			"jobTemplate": fields([]string{"spec"}, object{"metadata": object{"type": "object"}, "spec": job}),
		})),
		"ConfigMap": fields([]string{"apiVersion", "kind", "metadata", "data"}, object{
			"apiVersion": constant("v1"), "kind": constant("ConfigMap"), "metadata": metadata, "data": labels,
		}),
		"Deployment": top("apps/v1", "Deployment", fields([]string{"selector", "template"}, object{
			"replicas": number, "selector": selector, "strategy": fields([]string{"type"}, object{"type": object{"enum": []any{"Recreate", "RollingUpdate"}}}), "template": pod,
		})),
		"Job": top("batch/v1", "Job", job),
		"Service": top("v1", "Service", fields([]string{"selector", "ports"}, object{
			"selector": labels, "ports": list(fields([]string{"port"}, object{"name": text, "port": number, "targetPort": port})),
		})),
		"NetworkPolicy": top("networking.k8s.io/v1", "NetworkPolicy", fields([]string{"podSelector", "policyTypes", "ingress"}, object{
			"podSelector": selector, "policyTypes": list(object{"enum": []any{"Ingress", "Egress"}}),
			"ingress": list(fields([]string{"from", "ports"}, object{
				"from":  list(fields(nil, object{"podSelector": selector, "namespaceSelector": selector})),
				"ports": list(fields([]string{"protocol", "port"}, object{"protocol": object{"enum": []any{"TCP"}}, "port": port})),
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

// Kubernetes takes the manifests as they are, and leaves nothing out.
func TestSchemas(t *testing.T) {
	schemas := schemas(t)
	for name, o := range objects(t) {
		kind, _, _ := strings.Cut(name, " ")
		schema := schemas[kind]
		if schema == nil {
			t.Errorf("%s: there is no schema of its kind", name)
			continue
		}
		if err := schema.Validate(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	// The schemas see mistakes, also deep down.
	for _, test := range []struct {
		name, want string
		spoil      func(o object)
	}{
		{"FlinkDeployment backbone", "flinkversion", func(o object) { at(o, "spec").(object)["flinkversion"] = "v1_19" }},
		{"FlinkDeployment backbone", "flinkVersion", func(o object) { at(o, "spec").(object)["flinkVersion"] = "1.19" }},
		{"FlinkDeployment backbone", "arguments", func(o object) {
			at(o, "spec", "taskManager", "podTemplate", "spec", "containers", 0).(object)["arguments"] = []any{"worker-pool"}
		}},
		{"Deployment backbone-job-server", "containerPort", func(o object) {
			at(o, "spec", "template", "spec", "containers", 0, "ports", 0).(object)["containerPort"] = "jobs"
		}},
		{"Job interactions-", "restart", func(o object) { at(o, "spec", "template", "spec").(object)["restart"] = "Never" }},
		{"Service backbone-job-server", "selectors", func(o object) { at(o, "spec").(object)["selectors"] = object{} }},
		{"NetworkPolicy backbone-job-manager", "port", func(o object) {
			at(o, "spec", "ingress", 0, "ports", 0).(object)["port"] = uint64(70000)
		}},
	} {
		o := objects(t)[test.name]
		test.spoil(o)
		kind, _, _ := strings.Cut(test.name, " ")
		if err := schemas[kind].Validate(o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s with a wrong %s: error %v", test.name, test.want, err)
		}
	}
}

// pods are the templates of pods, by the name of their object.
func pods(all map[string]object) map[string]object {
	found := map[string]object{}
	for name, o := range all {
		for _, path := range [][]any{{"spec", "template"}, {"spec", "taskManager", "podTemplate"}, {"spec", "podTemplate"}} {
			if template, ok := at(o, path...).(object); ok {
				found[fmt.Sprint(name, " ", path[len(path)-2:])] = template
			}
		}
	}
	return found
}

// What one manifest says of another is true: labels, names, ports. And what a container of ours may do is as little as it needs.
func TestReferences(t *testing.T) {
	all := objects(t)
	service, policy := all["Service backbone-job-server"], all["NetworkPolicy backbone-job-server"]
	labels := fmt.Sprint(at(all["Deployment backbone-job-server"], "spec", "template", "metadata", "labels"))
	for what, got := range map[string]any{
		"the deployment's selector": at(all["Deployment backbone-job-server"], "spec", "selector", "matchLabels"),
		"the service":               at(service, "spec", "selector"),
		"the policy":                at(policy, "spec", "podSelector", "matchLabels"),
	} {
		if fmt.Sprint(got) != labels {
			t.Errorf("%s selects %v; the job server has %v", what, got, labels)
		}
	}
	launcher := fmt.Sprint(at(all["Job interactions-"], "spec", "template", "metadata", "labels"))
	if got := fmt.Sprint(at(policy, "spec", "ingress", 0, "from", 0, "podSelector", "matchLabels")); got != launcher {
		t.Errorf("the job server's policy lets %s in; a launcher has %s", got, launcher)
	}
	cluster := all["FlinkDeployment backbone"]
	config := at(cluster, "spec", "flinkConfiguration").(object)
	metrics, data := config["metrics.reporter.prometheus.port"], config["taskmanager.data.port"]
	var open []string
	for _, rule := range at(all["NetworkPolicy backbone-task-managers"], "spec", "ingress").([]any) {
		for _, port := range at(rule, "ports").([]any) {
			open = append(open, fmt.Sprint(at(port, "port")))
		}
	}
	slices.Sort(open)
	if want := []string{fmt.Sprint(data), "6122", fmt.Sprint(metrics)}; !slices.Equal(open, want) { // 6122 is RPC's, by the operator's default
		t.Errorf("ports %v of task managers are open, want %v", open, want)
	}
	args := fmt.Sprint(at(cluster, "spec", "taskManager", "podTemplate", "spec", "containers", 0, "args"))
	for _, want := range []string{"--environment_config=127.0.0.1:50000", "--endpoint=backbone-job-server:8099", "--flink_master=backbone-rest:8081"} {
		if got := at(all["Job interactions-"], "spec", "template", "spec", "containers", 0, "args").([]any); !slices.Contains(got, any(want)) {
			t.Errorf("the job's arguments are %v, want %s among them", got, want)
		}
	}
	if !strings.Contains(args, "--addr=127.0.0.1:50000") {
		t.Errorf("the pool's arguments are %s; it has to listen at 127.0.0.1:50000, where jobs look for it and nobody else reaches it", args)
	}
	for name, pod := range pods(all) {
		for _, c := range at(pod, "spec", "containers").([]any) {
			if at(c, "securityContext", "allowPrivilegeEscalation") != false {
				t.Errorf("%s: container %v may get more privileges", name, at(c, "name"))
			}
			if image, _ := at(c, "image").(string); strings.Contains(image, "backbone") && at(c, "securityContext", "runAsNonRoot") != true {
				t.Errorf("%s: container %v may be root", name, at(c, "name"))
			}
			if at(c, "image") != nil && at(c, "resources", "limits", "memory") == nil {
				t.Errorf("%s: container %v has no limit of memory", name, at(c, "name"))
			}
		}
	}
}
