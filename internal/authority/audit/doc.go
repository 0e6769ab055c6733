// Package audit writes one record for each thing that the Authority decided
// about somebody: who asked, from where, for what, and how it ended.
//
// It guarantees that a request has at most one record and, if its handler asked
// for one, exactly one, also when the handler panics; that a record holds no
// Sensitive value but its digest, and no text that looks like a credential;
// that whatever a caller sends, a record is one line of bounded length that a
// terminal shows as it is; that records of a healthy file are in the file
// before the answer is complete; and that a broken file never delays an answer
// beyond a bound, and is never silent.
package audit
