package exports

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/release"
)

// claim is one record of an Excititor bundle.
type claim struct {
	Vulnerability string `json:"vulnerabilityId"`
	Product       string `json:"productKey"`
	Provider      string `json:"providerId"`
	Status        string `json:"status"`
	Justification string `json:"justification,omitempty"`
	Detail        string `json:"detail"`
	FirstSeen     string `json:"firstSeen"`
	LastSeen      string `json:"lastSeen"`
}

func (w *writer) claim(n int) claim {
	c := claim{
		Vulnerability: w.cve(n), Product: w.purl() + "@" + w.version(), Provider: w.one("vendor:redhat", "vendor:suse", "vendor:cisco", "distro:ubuntu", "oci:attest"),
		Status: w.one("affected", "not_affected", "fixed", "under_investigation"), Detail: w.prose(1 + w.IntN(2)),
		FirstSeen: w.day().Format(time.RFC3339), LastSeen: w.created.Format(time.RFC3339),
	}
	if c.Status == "not_affected" {
		c.Justification = w.one("component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path", "inline_mitigations_already_exist")
	}
	return c
}

// vexRecords bounds what each of the exported files holds: they are selections.
const vexRecords = 50

type vexExport struct {
	Key       string `json:"exportKey"`
	Format    string `json:"format"`
	Generated string `json:"generatedAt"`
	Path      string `json:"path"`
	Size      int64  `json:"sizeBytes"`
	Digest    string `json:"digest"`
	Claims    int    `json:"claimCount"`
}

// vexExports writes DOMAIN/index.json and one file in each format.
func (e *export) vexExports(domain string) error {
	base := release.Root + domain + "/"
	var list []vexExport
	for _, format := range e.o.formats() {
		w := &writer{rand.New(e.source("export/" + domain + "/" + format)), e.o.Created}
		x := vexExport{Key: "consensus-" + format, Format: format, Generated: e.o.Created.Format(time.RFC3339), Claims: min(vexRecords, max(e.o.Advisories, 1))}
		x.Path = "exports/" + x.Key + ".json"
		if format == "jsonl" {
			x.Path += "l"
		}
		claims := make([]claim, x.Claims)
		for n := range claims {
			claims[n] = w.claim(n)
		}
		data, err := e.render(format, domain, claims)
		if err != nil {
			return err
		}
		f, err := e.create(base + x.Path)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		m, err := f.done(err)
		if err != nil {
			return err
		}
		x.Size, x.Digest = m.Size, "sha256:"+m.SHA256
		list = append(list, x)
	}
	return e.document(base+"index.json", struct {
		SchemaVersion int         `json:"schemaVersion"`
		Domain        string      `json:"domainId"`
		Generated     string      `json:"generatedAt"`
		Exports       []vexExport `json:"exports"`
	}{1, domain, e.o.Created.Format(time.RFC3339), list})
}

// render writes claims in one of the formats.
func (e *export) render(format, domain string, claims []claim) ([]byte, error) {
	created := e.o.Created.Format(time.RFC3339)
	switch format {
	case "json":
		return json.Marshal(map[string]any{"claims": claims})
	case "jsonl":
		var out []byte
		for _, c := range claims {
			line, err := json.Marshal(c)
			if err != nil {
				return nil, err
			}
			out = append(append(out, line...), '\n')
		}
		return out, nil
	case "openvex":
		statements := make([]any, len(claims))
		for i, c := range claims {
			s := map[string]any{
				"vulnerability": map[string]any{"name": c.Vulnerability}, "products": []any{map[string]any{"@id": c.Product}}, "status": c.Status,
			}
			switch {
			case c.Justification != "":
				s["justification"] = c.Justification
			case c.Status == "affected":
				s["action_statement"] = c.Detail
			}
			statements[i] = s
		}
		return json.Marshal(map[string]any{
			"@context": "https://openvex.dev/ns/v0.2.0", "@id": fmt.Sprintf("https://mirror.example/%s/%d", domain, e.o.Seed),
			"author": "Mirror of " + domain, "timestamp": created, "version": 1, "statements": statements,
		})
	case "csaf":
		return json.Marshal(csaf(domain, created, claims))
	}
	return nil, fmt.Errorf("format %q is not known", format)
}

// csaf makes a document of the profile csaf_vex.
func csaf(domain, created string, claims []claim) any {
	var products, vulnerabilities []any
	names := map[string]string{"affected": "known_affected", "not_affected": "known_not_affected", "fixed": "fixed", "under_investigation": "under_investigation"}
	for i, c := range claims {
		id := fmt.Sprintf("P-%04d", i)
		products = append(products, map[string]any{"product_id": id, "name": c.Product, "product_identification_helper": map[string]any{"purl": c.Product}})
		vulnerabilities = append(vulnerabilities, map[string]any{
			"cve": c.Vulnerability, "product_status": map[string]any{names[c.Status]: []string{id}},
			"notes": []any{map[string]any{"category": "description", "text": c.Detail}},
		})
	}
	return map[string]any{
		"document": map[string]any{
			"category": "csaf_vex", "csaf_version": "2.0", "title": "VEX of " + domain, "lang": "en",
			"publisher": map[string]any{"category": "translator", "name": "Mirror", "namespace": "https://mirror.example"},
			"tracking": map[string]any{
				"id": "vex-" + domain, "status": "final", "version": "1", "initial_release_date": created, "current_release_date": created,
				"revision_history": []any{map[string]any{"date": created, "number": "1", "summary": "export"}},
			},
		},
		"product_tree":    map[string]any{"full_product_names": products},
		"vulnerabilities": vulnerabilities,
	}
}

// sorted makes a list of counts, by name.
func sorted(count map[string]int) []manifestCount {
	list := []manifestCount{}
	for _, name := range slices.Sorted(maps.Keys(count)) {
		list = append(list, manifestCount{name, count[name]})
	}
	return list
}
