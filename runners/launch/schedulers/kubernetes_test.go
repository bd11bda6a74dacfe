package schedulers

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"backbone/runners/launch"
	"backbone/testing/kubernetes"
)

// Kubernetes takes the CronJob that is written for it, which may do as little as other containers, and which the network lets through.
func TestCronJob(t *testing.T) {
	text := []byte("name: nightly\npipeline: catalog\noptions: {lake: gs://shop/lake, items: 'gs://shop/{{ .Date }}/*.jsonl'}\nschedule: {cron: 0 3 * * *, time_zone: Europe/Berlin}\ncatch_up: 7\n")
	f, err := launch.Parse("nightly.yaml", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := Kubernetes(f, text, KubernetesOptions{Image: "my-registry/backbone:latest", Namespace: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	written := func() map[string]kubernetes.Object { return kubernetes.Parse(t, "what is written", []byte(manifest)) }
	schemas := kubernetes.Schemas(t)
	all := written()
	if len(all) != 2 {
		t.Errorf("%d objects, want a ConfigMap and a CronJob", len(all))
	}
	for name, o := range all {
		kind, _, _ := strings.Cut(name, " ")
		if err := schemas[kind].Validate(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	job := all["CronJob nightly"]
	pod := kubernetes.At(job, "spec", "jobTemplate", "spec", "template")
	launcher := kubernetes.At(kubernetes.Read(t, filepath.Join("..", "..", "flink", "kubernetes", "*.yaml"))["Job interactions-"], "spec", "template")
	if got, want := kubernetes.At(pod, "metadata", "labels"), kubernetes.At(launcher, "metadata", "labels"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("labels %v, want those of a launcher, %v", got, want)
	}
	ours, theirs := kubernetes.At(pod, "spec", "containers", 0, "securityContext"), kubernetes.At(launcher, "spec", "containers", 0, "securityContext")
	if fmt.Sprint(ours) != fmt.Sprint(theirs) {
		t.Errorf("security context %v, want that of a launcher, %v", ours, theirs)
	}
	for what, got := range map[string]any{"Forbid": kubernetes.At(job, "spec", "concurrencyPolicy"), "Europe/Berlin": kubernetes.At(job, "spec", "timeZone"), "0 3 * * *": kubernetes.At(job, "spec", "schedule")} {
		if got != what {
			t.Errorf("it has %v, want %v", got, what)
		}
	}

	// The schemas see mistakes, also deep down.
	for field, spoil := range map[string]func(o kubernetes.Object){
		"timezone": func(o kubernetes.Object) { kubernetes.At(o, "spec").(kubernetes.Object)["timezone"] = "UTC" },
		"concurrencyPolicy": func(o kubernetes.Object) {
			kubernetes.At(o, "spec").(kubernetes.Object)["concurrencyPolicy"] = "forbid"
		},
		"arguments": func(o kubernetes.Object) {
			kubernetes.At(o, "spec", "jobTemplate", "spec", "template", "spec", "containers", 0).(kubernetes.Object)["arguments"] = []any{"launch"}
		},
	} {
		o := written()["CronJob nightly"]
		spoil(o)
		if err := schemas["CronJob"].Validate(o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("with a wrong %s: error %v", field, err)
		}
	}
}
