// Package authority is the Authority: an OAuth token server with a JWKS, a key
// lifecycle API and a bootstrap API for clients.
//
// It guarantees that several replicas on one database and one key directory
// behave as one; that it is up, but not ready, while the database is down, and
// answers 503 where it cannot decide; that the key set is served without the
// database; that a bad configuration is refused before anything is touched;
// and that it can be killed at any moment.
package authority
