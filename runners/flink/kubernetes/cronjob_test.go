package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	"backbone/runners/launch"
	"backbone/runners/launch/schedulers"
)

// Kubernetes takes the CronJob that backbone schedule k8s writes, which may do as little as other containers, and which the network lets through.
func TestCronJob(t *testing.T) {
	text := []byte("name: nightly\npipeline: catalog\noptions: {lake: gs://shop/lake, items: 'gs://shop/{{ .Date }}/*.jsonl'}\nschedule: {cron: 0 3 * * *, time_zone: Europe/Berlin}\ncatch_up: 7\n")
	f, err := launch.Parse("nightly.yaml", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := schedulers.Kubernetes(f, text, schedulers.KubernetesOptions{Image: "my-registry/backbone:latest", Namespace: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	written := func() map[string]object {
		all := map[string]object{}
		add(t, all, "what is written", []byte(manifest))
		return all
	}
	schemas := schemas(t)
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
	pod := at(job, "spec", "jobTemplate", "spec", "template")
	launcher := at(objects(t)["Job interactions-"], "spec", "template")
	if got, want := at(pod, "metadata", "labels"), at(launcher, "metadata", "labels"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("labels %v, want those of a launcher, %v", got, want)
	}
	ours, theirs := at(pod, "spec", "containers", 0, "securityContext"), at(launcher, "spec", "containers", 0, "securityContext")
	if fmt.Sprint(ours) != fmt.Sprint(theirs) {
		t.Errorf("security context %v, want that of a launcher, %v", ours, theirs)
	}
	for what, got := range map[string]any{"Forbid": at(job, "spec", "concurrencyPolicy"), "Europe/Berlin": at(job, "spec", "timeZone"), "0 3 * * *": at(job, "spec", "schedule")} {
		if got != what {
			t.Errorf("it has %v, want %v", got, what)
		}
	}

	// The schemas see mistakes, also deep down.
	for field, spoil := range map[string]func(o object){
		"timezone":          func(o object) { at(o, "spec").(object)["timezone"] = "UTC" },
		"concurrencyPolicy": func(o object) { at(o, "spec").(object)["concurrencyPolicy"] = "forbid" },
		"arguments": func(o object) {
			at(o, "spec", "jobTemplate", "spec", "template", "spec", "containers", 0).(object)["arguments"] = []any{"launch"}
		},
	} {
		o := written()["CronJob nightly"]
		spoil(o)
		if err := schemas["CronJob"].Validate(o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("with a wrong %s: error %v", field, err)
		}
	}
}
