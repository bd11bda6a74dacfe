// Package kubernetes tests the manifests of this folder.
package kubernetes

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"backbone/testing/kubernetes"
)

type object = kubernetes.Object

// objects are those of all manifests, by "kind name".
func objects(t *testing.T) map[string]object {
	t.Helper()
	return kubernetes.Read(t, "*.yaml")
}

// Kubernetes takes the manifests as they are, and leaves nothing out.
func TestSchemas(t *testing.T) {
	schemas := kubernetes.Schemas(t)
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
		{"FlinkDeployment backbone", "flinkversion", func(o object) { kubernetes.At(o, "spec").(object)["flinkversion"] = "v1_19" }},
		{"FlinkDeployment backbone", "flinkVersion", func(o object) { kubernetes.At(o, "spec").(object)["flinkVersion"] = "1.19" }},
		{"FlinkDeployment backbone", "arguments", func(o object) {
			kubernetes.At(o, "spec", "taskManager", "podTemplate", "spec", "containers", 0).(object)["arguments"] = []any{"worker-pool"}
		}},
		{"Deployment backbone-job-server", "containerPort", func(o object) {
			kubernetes.At(o, "spec", "template", "spec", "containers", 0, "ports", 0).(object)["containerPort"] = "jobs"
		}},
		{"Job interactions-", "restart", func(o object) { kubernetes.At(o, "spec", "template", "spec").(object)["restart"] = "Never" }},
		{"Service backbone-job-server", "selectors", func(o object) { kubernetes.At(o, "spec").(object)["selectors"] = object{} }},
		{"NetworkPolicy backbone-job-manager", "port", func(o object) {
			kubernetes.At(o, "spec", "ingress", 0, "ports", 0).(object)["port"] = uint64(70000)
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
			if template, ok := kubernetes.At(o, path...).(object); ok {
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
	labels := fmt.Sprint(kubernetes.At(all["Deployment backbone-job-server"], "spec", "template", "metadata", "labels"))
	for what, got := range map[string]any{
		"the deployment's selector": kubernetes.At(all["Deployment backbone-job-server"], "spec", "selector", "matchLabels"),
		"the service":               kubernetes.At(service, "spec", "selector"),
		"the policy":                kubernetes.At(policy, "spec", "podSelector", "matchLabels"),
	} {
		if fmt.Sprint(got) != labels {
			t.Errorf("%s selects %v; the job server has %v", what, got, labels)
		}
	}
	launcher := fmt.Sprint(kubernetes.At(all["Job interactions-"], "spec", "template", "metadata", "labels"))
	if got := fmt.Sprint(kubernetes.At(policy, "spec", "ingress", 0, "from", 0, "podSelector", "matchLabels")); got != launcher {
		t.Errorf("the job server's policy lets %s in; a launcher has %s", got, launcher)
	}
	cluster := all["FlinkDeployment backbone"]
	config := kubernetes.At(cluster, "spec", "flinkConfiguration").(object)
	metrics, data := config["metrics.reporter.prometheus.port"], config["taskmanager.data.port"]
	var open []string
	for _, rule := range kubernetes.At(all["NetworkPolicy backbone-task-managers"], "spec", "ingress").([]any) {
		for _, port := range kubernetes.At(rule, "ports").([]any) {
			open = append(open, fmt.Sprint(kubernetes.At(port, "port")))
		}
	}
	slices.Sort(open)
	if want := []string{fmt.Sprint(data), "6122", fmt.Sprint(metrics)}; !slices.Equal(open, want) { // 6122 is RPC's, by the operator's default
		t.Errorf("ports %v of task managers are open, want %v", open, want)
	}
	args := fmt.Sprint(kubernetes.At(cluster, "spec", "taskManager", "podTemplate", "spec", "containers", 0, "args"))
	for _, want := range []string{"--environment_config=127.0.0.1:50000", "--endpoint=backbone-job-server:8099", "--flink_master=backbone-rest:8081"} {
		if got := kubernetes.At(all["Job interactions-"], "spec", "template", "spec", "containers", 0, "args").([]any); !slices.Contains(got, any(want)) {
			t.Errorf("the job's arguments are %v, want %s among them", got, want)
		}
	}
	if !strings.Contains(args, "--addr=127.0.0.1:50000") {
		t.Errorf("the pool's arguments are %s; it has to listen at 127.0.0.1:50000, where jobs look for it and nobody else reaches it", args)
	}
	for name, pod := range pods(all) {
		for _, c := range kubernetes.At(pod, "spec", "containers").([]any) {
			if kubernetes.At(c, "securityContext", "allowPrivilegeEscalation") != false {
				t.Errorf("%s: container %v may get more privileges", name, kubernetes.At(c, "name"))
			}
			if image, _ := kubernetes.At(c, "image").(string); strings.Contains(image, "backbone") && kubernetes.At(c, "securityContext", "runAsNonRoot") != true {
				t.Errorf("%s: container %v may be root", name, kubernetes.At(c, "name"))
			}
			if kubernetes.At(c, "image") != nil && kubernetes.At(c, "resources", "limits", "memory") == nil {
				t.Errorf("%s: container %v has no limit of memory", name, kubernetes.At(c, "name"))
			}
		}
	}
}
