package deploy_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/cli/config"
	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/strictyaml"
)

const manifest = "kubernetes/mirror-sync-cronjob.yaml"

type meta struct {
	Name   string            `yaml:"name"`
	Labels map[string]string `yaml:"labels"`
}

type configMap struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Metadata   meta              `yaml:"metadata"`
	Data       map[string]string `yaml:"data"`
}

// cronJob has the fields of batch/v1 that we use: another one is an error.
type cronJob struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   meta   `yaml:"metadata"`
	Spec       struct {
		Schedule                   string `yaml:"schedule"`
		ConcurrencyPolicy          string `yaml:"concurrencyPolicy"`
		StartingDeadlineSeconds    int    `yaml:"startingDeadlineSeconds"`
		SuccessfulJobsHistoryLimit int    `yaml:"successfulJobsHistoryLimit"`
		FailedJobsHistoryLimit     int    `yaml:"failedJobsHistoryLimit"`
		JobTemplate                struct {
			Spec struct {
				ActiveDeadlineSeconds int `yaml:"activeDeadlineSeconds"`
				BackoffLimit          int `yaml:"backoffLimit"`
				PodFailurePolicy      struct {
					Rules []rule `yaml:"rules"`
				} `yaml:"podFailurePolicy"`
				Template struct {
					Metadata meta `yaml:"metadata"`
					Spec     pod  `yaml:"spec"`
				} `yaml:"template"`
			} `yaml:"spec"`
		} `yaml:"jobTemplate"`
	} `yaml:"spec"`
}

type rule struct {
	Action          string `yaml:"action"`
	OnPodConditions []struct {
		Type   string `yaml:"type"`
		Status string `yaml:"status"`
	} `yaml:"onPodConditions"`
	OnExitCodes struct {
		ContainerName string `yaml:"containerName"`
		Operator      string `yaml:"operator"`
		Values        []int  `yaml:"values"`
	} `yaml:"onExitCodes"`
}

type pod struct {
	RestartPolicy                 string `yaml:"restartPolicy"`
	AutomountServiceAccountToken  *bool  `yaml:"automountServiceAccountToken"`
	EnableServiceLinks            *bool  `yaml:"enableServiceLinks"`
	TerminationGracePeriodSeconds int    `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               struct {
		RunAsNonRoot        bool   `yaml:"runAsNonRoot"`
		RunAsUser           int    `yaml:"runAsUser"`
		RunAsGroup          int    `yaml:"runAsGroup"`
		FSGroup             int    `yaml:"fsGroup"`
		FSGroupChangePolicy string `yaml:"fsGroupChangePolicy"`
		SeccompProfile      struct {
			Type string `yaml:"type"`
		} `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	Containers []container `yaml:"containers"`
	Volumes    []volume    `yaml:"volumes"`
}

type container struct {
	Name            string   `yaml:"name"`
	Image           string   `yaml:"image"`
	ImagePullPolicy string   `yaml:"imagePullPolicy"`
	Command         []string `yaml:"command"`
	Env             []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	} `yaml:"env"`
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		Privileged               bool  `yaml:"privileged"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct {
			Drop []string `yaml:"drop"`
		} `yaml:"capabilities"`
	} `yaml:"securityContext"`
	Resources struct {
		Requests map[string]string `yaml:"requests"`
		Limits   map[string]string `yaml:"limits"`
	} `yaml:"resources"`
	VolumeMounts []mount `yaml:"volumeMounts"`
}

type mount struct {
	Name      string `yaml:"name"`
	MountPath string `yaml:"mountPath"`
	ReadOnly  bool   `yaml:"readOnly"`
}

type volume struct {
	Name                  string `yaml:"name"`
	PersistentVolumeClaim struct {
		ClaimName string `yaml:"claimName"`
	} `yaml:"persistentVolumeClaim"`
	ConfigMap struct {
		Name        string `yaml:"name"`
		DefaultMode int    `yaml:"defaultMode"`
	} `yaml:"configMap"`
	Secret struct {
		SecretName  string `yaml:"secretName"`
		DefaultMode int    `yaml:"defaultMode"`
	} `yaml:"secret"`
}

// readManifest gives the configuration and the CronJobs by name.
func readManifest(t *testing.T) (cm configMap, jobs map[string]*cronJob) {
	t.Helper()
	data, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	jobs = map[string]*cronJob{}
	for i, doc := range strings.Split(string(data), "\n---\n") {
		if i == 0 {
			if err := strictyaml.Decode(manifest, []byte(doc), &cm); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var j cronJob
		if err := strictyaml.Decode(manifest, []byte(doc), &j); err != nil {
			t.Fatal(err)
		}
		jobs[j.Metadata.Name] = &j
	}
	if cm.APIVersion != "v1" || cm.Kind != "ConfigMap" || len(jobs) != 2 || jobs["stella-mirror-sync"] == nil || jobs["stella-mirror-prune"] == nil {
		t.Fatalf("a %s and %d CronJobs", cm.Kind, len(jobs))
	}
	return cm, jobs
}

func TestCronJobs(t *testing.T) {
	_, jobs := readManifest(t)
	for name, j := range jobs {
		spec, job := j.Spec, j.Spec.JobTemplate.Spec
		switch {
		case j.APIVersion != "batch/v1" || j.Kind != "CronJob":
			t.Errorf("%s is a %s of %s", name, j.Kind, j.APIVersion)
		case spec.ConcurrencyPolicy != "Forbid" || spec.StartingDeadlineSeconds < 10:
			t.Errorf("%s: two runs at once, or an end of the schedule: %s, %d s", name, spec.ConcurrencyPolicy, spec.StartingDeadlineSeconds)
		case job.ActiveDeadlineSeconds < 3600 || job.BackoffLimit < 1:
			t.Errorf("%s: deadline %d s, backoff limit %d", name, job.ActiveDeadlineSeconds, job.BackoffLimit)
		}
		checkPod(t, name, &job.Template.Spec)
		checkRules(t, name, job.Template.Spec.Containers[0].Name, job.PodFailurePolicy.Rules)
	}
	if got := jobs["stella-mirror-sync"].Spec; got.Schedule != "*/5 * * * *" || got.StartingDeadlineSeconds >= 300 || got.JobTemplate.Spec.ActiveDeadlineSeconds != 6*3600 {
		t.Errorf("sync: %q, starts within %d s, ends within %d s", got.Schedule, got.StartingDeadlineSeconds, got.JobTemplate.Spec.ActiveDeadlineSeconds)
	}
	a, b := jobs["stella-mirror-sync"].Spec.JobTemplate.Spec.Template.Spec, jobs["stella-mirror-prune"].Spec.JobTemplate.Spec.Template.Spec
	if !reflect.DeepEqual(a.SecurityContext, b.SecurityContext) || a.Containers[0].Image != b.Containers[0].Image {
		t.Error("sync and prune run as different users, or from different images")
	}
}

func checkRules(t *testing.T, name, container string, rules []rule) {
	t.Helper()
	var fails []int
	ignored := false
	for _, r := range rules {
		switch r.Action {
		case "FailJob":
			if r.OnExitCodes.ContainerName != container || r.OnExitCodes.Operator != "In" || !slices.IsSorted(r.OnExitCodes.Values) {
				t.Errorf("%s: the API server refuses %+v, or it is about nobody", name, r.OnExitCodes)
			}
			fails = append(fails, r.OnExitCodes.Values...)
		case "Ignore":
			ignored = ignored || len(r.OnPodConditions) == 1 && r.OnPodConditions[0].Type == "DisruptionTarget" && r.OnPodConditions[0].Status == "True"
		default:
			t.Errorf("%s: action %q", name, r.Action)
		}
	}
	if !ignored {
		t.Errorf("%s: a node that is drained counts as a failure", name)
	}
	// Every kind is on one side, on purpose.
	again := []fault.Kind{fault.Unclassified, fault.ChecksFailed, fault.Transient, fault.Partial, fault.Locked, fault.NothingToDo, fault.Interrupted, fault.Terminated}
	for _, row := range fault.Table() {
		if retried := slices.Contains(again, row.Kind); row.Kind != fault.None && retried == slices.Contains(fails, row.Code) {
			t.Errorf("%s: exit code %d (%s): retried must be %v", name, row.Code, row.Name, retried)
		}
	}
}

func checkPod(t *testing.T, name string, p *pod) {
	t.Helper()
	no := func(what string, v *bool) {
		if v == nil || *v {
			t.Errorf("%s: %s must be false", name, what)
		}
	}
	no("automountServiceAccountToken", p.AutomountServiceAccountToken)
	no("enableServiceLinks", p.EnableServiceLinks) // STELLA_MIRROR_SERVICE_HOST ends in exit code 78
	s := p.SecurityContext
	if p.RestartPolicy != "Never" || !s.RunAsNonRoot || s.RunAsUser == 0 || s.RunAsGroup == 0 || s.FSGroup != s.RunAsGroup || s.SeccompProfile.Type != "RuntimeDefault" {
		t.Errorf("%s: restart %s, %+v", name, p.RestartPolicy, s)
	}
	if s.FSGroupChangePolicy != "OnRootMismatch" {
		t.Errorf("%s: fsGroupChangePolicy %q would open history/signer.pem to the group before each run", name, s.FSGroupChangePolicy)
	}
	if len(p.Containers) != 1 {
		t.Fatalf("%s: %d containers", name, len(p.Containers))
	}
	c := p.Containers[0]
	no("allowPrivilegeEscalation", c.SecurityContext.AllowPrivilegeEscalation)
	if c.SecurityContext.Privileged || !c.SecurityContext.ReadOnlyRootFilesystem || !slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}) {
		t.Errorf("%s: %+v", name, c.SecurityContext)
	}
	if !regexp.MustCompile(`^[^@:]+@sha256:0{64}$`).MatchString(c.Image) {
		t.Errorf("%s: image %q is not the placeholder, which no registry can serve", name, c.Image)
	}
	for _, r := range []string{"cpu", "memory"} {
		if c.Resources.Limits[r] == "" || c.Resources.Requests[r] == "" {
			t.Errorf("%s: no limit or request of %s", name, r)
		}
	}
	if c.Command[0] != "/usr/bin/stella" {
		t.Errorf("%s: runs %q", name, c.Command)
	} else if why := flaw(c.Command[1:]); why != "" {
		t.Errorf("%s: %q: %s", name, c.Command, why)
	}
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(p.Volumes, func(v volume) bool { return v.Name == m.Name })
		if i < 0 {
			t.Errorf("%s: no volume %q", name, m.Name)
		} else if claim := p.Volumes[i].PersistentVolumeClaim.ClaimName; m.ReadOnly == (claim != "") {
			t.Errorf("%s: %s is mounted read-only: %v", name, m.MountPath, m.ReadOnly)
		}
	}
}

// TestCronJobConfiguration: the configuration is accepted, means the folders
// that are mounted, and believes nobody until somebody fills in a key.
func TestCronJobConfiguration(t *testing.T) {
	cm, jobs := readManifest(t)
	p := jobs["stella-mirror-sync"].Spec.JobTemplate.Spec.Template.Spec
	c := p.Containers[0]
	at := map[string]volume{}
	for _, m := range c.VolumeMounts {
		at[m.MountPath] = p.Volumes[slices.IndexFunc(p.Volumes, func(v volume) bool { return v.Name == m.Name })]
	}
	dir := t.TempDir()
	for name, text := range cm.Data {
		write(t, filepath.Join(dir, name), strings.ReplaceAll(text, "/etc/stella/", dir+"/"))
	}
	var environ []string
	for _, e := range c.Env {
		environ = append(environ, e.Name+"="+e.Value)
	}
	conf, err := config.Load(config.Source{Path: filepath.Join(dir, "stella.yaml"), Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range conf.Mirror.Feeds {
		if claim := at[filepath.Join(conf.Mirror.Root, f.Name)].PersistentVolumeClaim.ClaimName; claim != f.Name+"-mirror-exports" {
			t.Errorf("feed %s is kept on the claim %q", f.Name, claim)
		}
	}
	if at["/etc/stella"].ConfigMap.Name != cm.Metadata.Name || !slices.Contains(c.Command, "/etc/stella/stella.yaml") {
		t.Errorf("%q does not read the ConfigMap", c.Command)
	}
	header, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{string(conf.Mirror.S3.AccessKeyID), string(conf.Mirror.S3.SecretAccessKey)} {
		name, ok := strings.CutPrefix(ref, "cred:")
		if !ok || !strings.Contains(string(header), "--from-file="+name) {
			t.Errorf("%q is not in the Secret", ref)
		}
	}
	if i := slices.Index(environ, "CREDENTIALS_DIRECTORY=/run/credentials"); i < 0 || at["/run/credentials"].Secret.SecretName != "stella-mirror-s3" {
		t.Errorf("the Secret is not where cred: looks: %q", environ)
	}
	if _, err := release.LoadPolicy(conf.Mirror.TrustPolicy); fault.KindOf(err) != fault.Config {
		t.Errorf("as it is delivered: %v", err)
	}
	trusting(t, filepath.Join(dir, "mirror.pem"))
	policy, err := release.LoadPolicy(conf.Mirror.TrustPolicy)
	if err != nil {
		t.Fatal(err)
	}
	if policy.Statement != release.Required || len(policy.Keys) != 1 {
		t.Errorf("statement %s, %d keys", policy.Statement, len(policy.Keys))
	}
}
