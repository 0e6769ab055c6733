package device

import "context"

// ParseUserCode returns "" for what is not a code.
func ParseUserCode(typed string) string {
	code, ok := parseUserCode(typed)
	if !ok {
		return ""
	}
	return code
}

// Held decides as the page does, without a person (nil denies), and reports
// whether an approval holds.
func Held(ctx context.Context, c *Codes, userCode string, a *Approval) (bool, error) {
	r, err := c.byUserCode(ctx, ParseUserCode(userCode))
	if err != nil {
		return false, err
	}
	d, err := c.decide(ctx, r, &decision{Approval: a, Subject: "usr_1", At: c.Now()})
	if err != nil {
		return false, err
	}
	return d.Approval != nil, nil
}

// Decide is Held for who knows the answer.
func Decide(ctx context.Context, c *Codes, userCode string, a *Approval) error {
	_, err := Held(ctx, c, userCode, a)
	return err
}

// Claim claims as the page does.
func Claim(ctx context.Context, c *Codes, userCode, browser string) (string, error) {
	r, err := c.byUserCode(ctx, ParseUserCode(userCode))
	if err != nil {
		return "", err
	}
	return c.claim(ctx, r, browser)
}

// NewUserCode makes a code.
func NewUserCode() string { return newUserCode() }

// Is256 reports whether s is 256 bits in their one encoding.
func Is256(s string) bool { return is256(s) }

// FormToken is the token of forms for a cookie.
func FormToken(cookie string) string { return (&browser{cookie: cookie}).token() }
