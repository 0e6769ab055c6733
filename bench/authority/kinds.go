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
	do   func(context.Context, *load, *job) error
}

// kind is a kind of request.
type kind struct {
	name string
	jobs int // in a round, with the store in memory
	few  int // in a round, on the embedded database, which gets slower with each record
	most int // in one run at 70 %
	// stock prepares jobs before the clock starts; nil: there is nothing to
	// prepare.
	stock func(context.Context, *load, []*job) error
	steps []step // of each job, in this order
}

func kinds() []kind {
	one := func(name string, w work, do func(context.Context, *load, *job) error) []step {
		return []step{{name, w, do}}
	}
	grant := grantWork()
	return []kind{
		{name: "token", jobs: 2000, few: 1000, most: 20_000, steps: one("client_credentials, DPoP", grant,
			func(ctx context.Context, l *load, _ *job) error { _, err := l.token(ctx); return err })},
		// The client's certificate is verified for each request: its tenant may
		// have taken it back.
		{name: "mtls", jobs: 2000, few: 1000, most: 20_000, steps: one("client_credentials, mTLS", grant,
			func(ctx context.Context, l *load, _ *job) error { return l.certToken(ctx) })},
		{name: "refresh", jobs: 2000, few: 100, most: 20_000, stock: families, steps: one("refresh_token, DPoP", grant,
			func(ctx context.Context, l *load, _ *job) error { return l.refresh(ctx) })},
		{name: "introspect", jobs: 2000, few: 1000, most: 20_000, stock: sharedToken, steps: one("introspect", work{verify: 1},
			func(ctx context.Context, l *load, j *job) error { return l.introspect(ctx, j.token) })},
		// A revocation stays on the list until its token has expired: no more
		// of them than a list has room for.
		{name: "revoke", jobs: 1000, few: 200, most: 4000, stock: ownTokens, steps: one("revoke", work{verify: 1},
			func(ctx context.Context, l *load, j *job) error { return l.revoke(ctx, j.token) })},
		{name: "device", jobs: 60, few: 20, most: 20_000, steps: deviceSteps()},
	}
}

func deviceSteps() []step {
	return []step{
		{"device: begin", work{}, func(ctx context.Context, l *load, j *job) (err error) {
			j.begun, err = l.begin(ctx)
			return err
		}},
		{"device: poll, pending", work{}, func(ctx context.Context, l *load, j *job) error { return l.poll(ctx, j.begun) }},
		{"device: log in, approve", work{requests: loginRequests, logins: 1},
			func(ctx context.Context, l *load, j *job) error { return l.approve(ctx, j.begun) }},
		{"device: redeem", grantWork(), func(ctx context.Context, l *load, j *job) error { _, err := l.redeem(ctx, j.begun); return err }},
	}
}

// grantWork is the proof and the token.
func grantWork() work { return work{verify: 1, sign: 1} }

// loginRequests is how many requests a browser sends to log in and approve:
// the page, then code, password and decision, each with the page it leads to.
const loginRequests = 7

// families makes as many families of refresh tokens as may be asked for at the
// same time; the first time only.
func families(ctx context.Context, l *load, _ []*job) error {
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
func sharedToken(ctx context.Context, l *load, jobs []*job) error {
	token, err := l.token(ctx)
	for _, j := range jobs {
		j.token = token
	}
	return err
}

// ownTokens gives each job a token of its own.
func ownTokens(ctx context.Context, l *load, jobs []*job) error {
	return parallel(ctx, jobs, func(ctx context.Context, j *job) (err error) {
		j.token, err = l.token(ctx)
		return err
	})
}
