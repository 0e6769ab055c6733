package main

import "context"

// job is one request, or one chain of requests, in the making.
type job struct {
	token string // to introspect or to revoke
	begun begun  // to poll for, approve and redeem
}

// step is one thing that is timed.
type step struct {
	name string
	work work // of the floor
	do   func(context.Context, *job) error
}

// kind is a kind of request.
type kind struct {
	name string
	jobs int // in a round
	most int // in one run at 70 %
	// stock prepares jobs before the clock starts; nil: there is nothing to
	// prepare.
	stock func(context.Context, []*job) error
	steps []step // of each job, in this order
}

func (l *load) kinds() []kind {
	token := func(ctx context.Context, _ *job) error { _, err := l.token(ctx); return err }
	one := func(name string, w work, do func(context.Context, *job) error) []step { return []step{{name, w, do}} }
	return []kind{
		{name: "token", jobs: 2000, most: 1e6, steps: one("client_credentials, DPoP", work{verify: 1, sign: 1}, token)},
		{name: "mtls", jobs: 2000, most: 1e6, steps: one("client_credentials, mTLS", work{verify: 1, sign: 1},
			func(ctx context.Context, _ *job) error { return l.certToken(ctx) })},
		{name: "refresh", jobs: 2000, most: 1e6, stock: l.families, steps: one("refresh_token, DPoP", work{verify: 1, sign: 1},
			func(ctx context.Context, _ *job) error { return l.refresh(ctx) })},
		{name: "introspect", jobs: 2000, most: 1e6, stock: l.sharedToken, steps: one("introspect", work{verify: 1},
			func(ctx context.Context, j *job) error { return l.introspect(ctx, j.token) })},
		// A revocation stays on the list until its token has expired: no more
		// of them than a list has room for.
		{name: "revoke", jobs: 1000, most: 6000, stock: l.ownTokens, steps: one("revoke", work{verify: 1},
			func(ctx context.Context, j *job) error { return l.revoke(ctx, j.token) })},
		{name: "device", jobs: 60, most: 1e6, steps: l.deviceSteps()},
	}
}

func (l *load) deviceSteps() []step {
	return []step{
		{"device: begin", work{}, func(ctx context.Context, j *job) (err error) {
			j.begun, err = l.begin(ctx)
			return err
		}},
		{"device: poll, pending", work{}, func(ctx context.Context, j *job) error { return l.poll(ctx, j.begun) }},
		// The page, the code, the password and the decision, with the pages
		// that they lead to.
		{"device: log in, approve", work{requests: loginRequests, logins: 1}, func(ctx context.Context, j *job) error { return l.approve(ctx, j.begun) }},
		{"device: redeem", work{verify: 1, sign: 1}, func(ctx context.Context, j *job) error { _, err := l.redeem(ctx, j.begun); return err }},
	}
}

// loginRequests is how many requests a browser sends to log in and approve.
const loginRequests = 7

// families makes as many families of refresh tokens as may be asked for at the
// same time; the first time only.
func (l *load) families(ctx context.Context, _ []*job) error {
	if len(l.chains) > 0 {
		return nil
	}
	return parallel(ctx, make([]*job, cap(l.chains)), func(ctx context.Context, _ *job) error {
		b, err := l.begin(ctx)
		if err != nil {
			return err
		}
		if err := l.approve(ctx, b); err != nil {
			return err
		}
		token, err := l.redeem(ctx, b)
		l.chains <- token
		return err
	})
}

// sharedToken gives all jobs one token.
func (l *load) sharedToken(ctx context.Context, jobs []*job) error {
	token, err := l.token(ctx)
	for _, j := range jobs {
		j.token = token
	}
	return err
}

// ownTokens gives each job a token of its own.
func (l *load) ownTokens(ctx context.Context, jobs []*job) error {
	return parallel(ctx, jobs, func(ctx context.Context, j *job) (err error) {
		j.token, err = l.token(ctx)
		return err
	})
}
