// Package testenv starts the real parts that tests and the lab need: a
// database that speaks the MongoDB wire protocol, a throw-away CA, servers as
// processes of their own, and the proxies between them.
//
// It guarantees free ports, readiness without waiting blindly, and that
// nothing is left behind when the context it was given ends.
package testenv
