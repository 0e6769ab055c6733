package config

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/strictyaml"
)

// Source says what to load from.
type Source struct {
	// Path is the value of --config; "" searches $STELLA_CONFIG, then
	// $XDG_CONFIG_HOME (or ~/.config) stella/stella.yaml, then
	// /etc/stella/stella.yaml. A file that is named must exist.
	Path    string
	Environ []string               // as os.Environ returns it
	Flags   map[string]*pflag.Flag // by key; only those that were set count
	System  string                 // "/etc/stella/stella.yaml" when empty; for tests
}

// Load reads, overlays and validates the configuration. Every error is of
// kind Config and names the place of the mistake.
func Load(src Source) (*Config, error) {
	env := environ(src.Environ)
	getenv := func(name string) string { return env[name] }
	c := Defaults(getenv)
	c.environ, c.origins, c.token = env, map[string]string{}, env["STELLA_TOKEN"]
	if err := c.checkNames(); err != nil {
		return nil, err
	}
	if err := c.readFile(src, getenv); err != nil {
		return nil, err
	}
	if err := c.overlay(src); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// File returns the path of the file that Load would read, or "" when there is
// none.
func File(src Source) (string, error) {
	env := environ(src.Environ)
	return find(src, func(name string) string { return env[name] })
}

func find(src Source, getenv func(string) string) (string, error) {
	if src.Path != "" {
		return src.Path, nil
	}
	if path := getenv("STELLA_CONFIG"); path != "" {
		return path, nil
	}
	var candidates []string
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		candidates = append(candidates, filepath.Join(dir, "stella", "stella.yaml"))
	} else if home := getenv("HOME"); filepath.IsAbs(home) {
		candidates = append(candidates, filepath.Join(home, ".config", "stella", "stella.yaml"))
	}
	for _, path := range append(candidates, cmp.Or(src.System, "/etc/stella/stella.yaml")) {
		_, err := strictyaml.ReadFile(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err // there, but not readable: going on would hide it
		}
	}
	return "", nil
}

// environ indexes the environment. A variable that is set to nothing counts as
// not set, which is how shells and unit files switch one off.
func environ(lines []string) map[string]string {
	env := make(map[string]string, len(lines))
	for _, line := range lines {
		if name, value, _ := strings.Cut(line, "="); value != "" {
			env[name] = value
		} else {
			delete(env, name) // the last one counts
		}
	}
	return env
}

// checkNames refuses STELLA_ variables that nothing reads.
func (c *Config) checkNames() error {
	allowed := OtherNames()
	single, lists := fieldsOf(c)
	for _, s := range single {
		allowed = append(allowed, EnvName(s.key))
	}
	var unknown []string
	for name := range c.environ {
		if strings.HasPrefix(name, "STELLA_") && !strings.HasPrefix(name, "STELLA_TEST_") && !slices.Contains(allowed, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	e := fault.Errorf(fault.Config, "environment %s: nothing reads this variable", unknown[0])
	list := slices.IndexFunc(lists, func(l objects) bool { return strings.HasPrefix(unknown[0], EnvName(l.key)) })
	if near := strictyaml.Nearest(unknown[0], allowed); list >= 0 {
		e = e.Hint("%s can be set in the configuration file only", lists[list].key)
	} else if near != "" {
		e = e.Hint("did you mean %s?", near)
	}
	return e.Hint("unset %s", unknown[0]).Hint("what is read: docs/config-stella.md")
}

func (c *Config) readFile(src Source, getenv func(string) string) error {
	path, err := find(src, getenv)
	if err != nil || path == "" {
		return err
	}
	data, err := strictyaml.ReadFile(path)
	if err != nil {
		return err
	}
	if err := strictyaml.Decode(path, data, c); err != nil {
		return err
	}
	for key, line := range strictyaml.Locate(data) {
		c.origins[key] = fileOrigin(path, line)
	}
	c.resolve(filepath.Dir(path))
	return nil
}

// resolve makes the relative paths of a file relative to its directory, so
// that they mean the same wherever a command is started.
func (c *Config) resolve(dir string) {
	for _, s := range everything(c) {
		if p, _ := s.path(); p != nil && *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
		ref := s.ref()
		if ref == nil {
			continue
		}
		if path, ok := strings.CutPrefix(string(*ref), "file:"); ok && !filepath.IsAbs(path) {
			*ref = secret.Ref("file:" + filepath.Join(dir, path))
		}
	}
}

// overlay puts flags over the environment over what the file says. Viper
// decides which wins; the strict decoder decides whether it is valid.
func (c *Config) overlay(src Source) error {
	v := viper.New()
	env := map[string]any{}
	for _, s := range scalars(c) {
		v.SetDefault(s.key, s.text())
		if value, ok := c.environ[EnvName(s.key)]; ok {
			env[s.key] = value
			c.origins[s.key] = "env " + EnvName(s.key)
		}
		flag := src.Flags[s.key]
		if flag == nil || !flag.Changed {
			continue
		}
		if err := v.BindPFlag(s.key, flag); err != nil {
			return fault.Errorf(fault.Config, "binding --%s: %w", flag.Name, err)
		}
		c.origins[s.key] = "flag --" + flag.Name
	}
	for key, value := range env {
		if err := v.MergeConfigMap(nest(key, value)); err != nil {
			return fault.Errorf(fault.Config, "environment %s: %w", EnvName(key), err)
		}
	}
	for _, s := range scalars(c) {
		where, name, _ := strings.Cut(c.origins[s.key], " ")
		if where == "env" || where == "flag" {
			if err := c.set(s, where, name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Config) set(s scalar, where, name string, v *viper.Viper) error {
	origin := map[string]string{"env": "environment ", "flag": "flag "}[where] + name
	if _, isList := s.field.Interface().([]string); isList {
		list := v.GetStringSlice(s.key)
		if where == "env" {
			list = strings.FieldsFunc(v.GetString(s.key), func(r rune) bool { return r == ',' || r == ' ' })
		}
		s.field.SetZero()
		for i, item := range list {
			if err := strictyaml.Set(origin, append(strings.Split(s.key, "."), itoa(i)), item, c); err != nil {
				return err
			}
		}
		return nil
	}
	return strictyaml.Set(origin, strings.Split(s.key, "."), v.GetString(s.key), c)
}

// nest turns a dotted key into the nested maps that viper merges.
func nest(key string, value any) map[string]any {
	parts := strings.Split(key, ".")
	for i := len(parts) - 1; i > 0; i-- {
		value = map[string]any{parts[i]: value}
	}
	return map[string]any{parts[0]: value}
}
