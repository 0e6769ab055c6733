package objstore

import (
	"net"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
)

// Scheme is the kind of a place.
type Scheme string

// The schemes. HTTP is for loopback alone.
const (
	S3    Scheme = "s3"
	HTTPS Scheme = "https"
	HTTP  Scheme = "http"
	File  Scheme = "file"
)

// Place is where objects are. Its zero value is no place.
type Place struct {
	Scheme Scheme
	Host   string // bucket, or host[:port] as it was given; "" for File
	Path   string // as it is, not escaped: prefix or base path without slashes around it; absolute for File
}

// MaxPlace bounds the text of a place, in bytes.
const MaxPlace = 2048

// S3 naming rules for general-purpose buckets.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// Parse reads s3://BUCKET[/PREFIX], https://HOST[:PORT][/BASE], the same with
// http:// for a loopback address, and file:///ABSOLUTE/PATH. One slash at the
// end does not count; else there is one way to write a place, percent-escapes
// included (in s3:// there are none). Errors are of kind Input and repeat no
// part that may be a secret.
func Parse(raw string) (Place, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	switch {
	case len(raw) > MaxPlace:
		return Place{}, fault.Errorf(fault.Input, "place of %d bytes: longer than %d", len(raw), MaxPlace)
	case !ok:
		return Place{}, fault.Errorf(fault.Input, "place %.60q has no scheme", withheld(raw)).
			Hint("write s3://BUCKET/PREFIX, https://HOST/PATH or file:///ABSOLUTE/PATH")
	}
	authority, _, _ := strings.Cut(rest, "/")
	if strings.Contains(authority, "@") {
		return Place{}, fault.Errorf(fault.Input, "a place with a user name or password in it is refused (value withheld)").
			Hint("credentials are configured apart, by reference")
	}
	if strings.ContainsAny(rest, "?#") {
		return Place{}, fault.Errorf(fault.Input, "a place with a query or fragment is refused (value withheld)").
			Hint("signed URLs are no places: configure credentials apart, by reference")
	}
	switch Scheme(scheme) {
	case S3:
		return parseBucket(rest)
	case HTTPS, HTTP, File:
		return parseURL(Scheme(scheme), raw)
	}
	return Place{}, fault.Errorf(fault.Input, "place %.60q: unknown scheme %.20q", raw, scheme).
		Hint("known are s3://, https://, file:// and, for loopback, http://")
}

func parseBucket(rest string) (Place, error) {
	bucket, prefix, _ := strings.Cut(rest, "/")
	prefix = strings.TrimSuffix(prefix, "/")
	if !bucketName.MatchString(bucket) || strings.Contains(bucket, "..") {
		return Place{}, fault.Errorf(fault.Input, "place s3://%.80q: no bucket has this name", bucket).
			Hint("write s3://BUCKET/PREFIX; a bucket is 3 to 63 of a-z 0-9 . -")
	}
	if prefix != "" {
		if err := CheckKey(prefix); err != nil {
			return Place{}, fault.Errorf(fault.Input, "place s3://%s/…: %w", bucket, err)
		}
	}
	p := Place{S3, bucket, prefix}
	if canonical := p.String(); "s3://"+rest != canonical && "s3://"+rest != canonical+"/" {
		return Place{}, fault.Errorf(fault.Input, "place s3://%.200q is not written in the one way that is accepted", rest).
			Hint("write %.300s", canonical)
	}
	return p, nil
}

func parseURL(scheme Scheme, raw string) (Place, error) {
	bad := func(why string) (Place, error) {
		return Place{}, fault.Errorf(fault.Input, "place %.200q: %s", raw, why)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return bad("not a URL") // the cause repeats the URL
	}
	p := Place{scheme, u.Host, strings.Trim(u.Path, "/")}
	switch {
	case scheme == File && u.Host != "":
		return Place{}, fault.Errorf(fault.Input, "place %.200q: the path of a file must be absolute", raw).
			Hint("write file:///%s", path.Join(u.Host, p.Path))
	case scheme == File:
		p.Path = "/" + p.Path
	case u.Hostname() == "":
		return bad("it names no host")
	case scheme == HTTP && !Loopback(u.Hostname()):
		return Place{}, fault.Errorf(fault.Input, "place %.200q: http:// is for loopback addresses only", raw).
			Hint("write https://")
	}
	if p.Path != "" && p.Path != "/" {
		if err := CheckKey(strings.TrimPrefix(p.Path, "/")); err != nil {
			return Place{}, fault.Errorf(fault.Input, "place %.200q: %w", raw, err)
		}
	}
	if canonical := p.String(); raw != canonical && raw != canonical+"/" {
		return Place{}, fault.Errorf(fault.Input, "place %.200q is not written in the one way that is accepted", raw).
			Hint("write %.300s", canonical)
	}
	return p, nil
}

// String writes p as Parse reads it.
func (p Place) String() string {
	switch {
	case p.Scheme == File:
		return (&url.URL{Scheme: string(File), Path: p.Path}).String()
	case p.Scheme == S3 && p.Path != "":
		return "s3://" + p.Host + "/" + p.Path
	case p.Path != "":
		return (&url.URL{Scheme: string(p.Scheme), Host: p.Host, Path: "/" + p.Path}).String()
	}
	return string(p.Scheme) + "://" + p.Host
}

// Loopback says whether a host, without port, is this machine alone.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// withheld cuts off what may be a secret.
func withheld(raw string) string {
	if i := strings.IndexAny(raw, "?#@"); i >= 0 {
		return "…"
	}
	return raw
}
