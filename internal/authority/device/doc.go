// Package device is the device authorization grant (RFC 8628): the endpoint
// where a program without a browser begins, the page where a person signs in
// and decides, and what the token endpoint asks about a device code.
//
// It guarantees that a device code is decided once, by a person who signed in
// for this very code in the browser that was first to enter it, and is turned
// into tokens once, by the client it was given to: each of these steps is an
// insert under a unique key, so it holds over any number of replicas. Nothing
// is granted that the client did not ask for or the person does not have. Both
// codes end together. Device codes and cookies are stored as SHA-256 only, and
// where the store cannot answer nothing is decided.
//
// A user code has 20^8 values (34.5 bits). With 60 tries a minute from each of
// 1000 addresses during the 15 minutes that 100 codes are alive, the chance to
// hit any is 0.4 %; a hit leads to a sign-in page, and to a warning for the
// person who was second. What it cannot prevent is that somebody is talked
// into approving a code which is not theirs (RFC 8628 section 5.4): the page
// never enters a code by itself, shows it in large letters beside where the
// request came from, and asks for the password for each code again.
package device
