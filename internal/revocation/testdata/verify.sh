#!/bin/sh
# Verifies a revocation bundle with openssl, jq and coreutils:
#   verify.sh DIR JWKS [STATE]
# DIR holds the three files, JWKS is the issuer's key set. STATE keeps the last
# accepted sequence, if given. docs/formats/revocation-bundle.md explains it.
set -eu
dir=$1 jwks=$2 state=${3:-}
bundle=$dir/revocation-bundle.json
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
fail() { echo "refused: $*" >&2; exit 21; }
unb64() { # base64url without padding, to bytes
	case $((${#1} % 4)) in 2) pad='==' ;; 3) pad='=' ;; *) pad='' ;; esac
	printf '%s%s' "$1" "$pad" | basenc --base64url -d
}
hex() { od -An -v -tx1 | tr -d ' \n'; }

# 1. Canonical form.
jq -e . "$bundle" >/dev/null || fail 'not JSON'
jq --sort-keys --indent 2 . "$bundle" | head -c -1 | cmp -s - "$bundle" || fail 'not in canonical form'

# 2. SHA-256.
want=$(cut -d' ' -f1 <"$bundle.sha256")
[ "$(sha256sum <"$bundle" | cut -d' ' -f1)" = "$want" ] || fail 'other SHA-256'

# 3. Header and key.
jws=$(cat "$bundle.jws")
protected=${jws%%.*} signature=${jws##*.}
[ "$jws" = "$protected..$signature" ] || fail 'signature is not detached'
unb64 "$protected" >"$tmp/header"
jq -e '.alg == "ES256" and .b64 == false and .crit == ["b64"]
  and .typ == "application/vnd.stellaops.revocation-bundle+jws"' "$tmp/header" >/dev/null || fail 'other header'
kid=$(jq -r .kid "$tmp/header")
jq -e --arg kid "$kid" '.signingKeyId // $kid | . == $kid' "$bundle" >/dev/null || fail 'other signing key'
jq -e --arg kid "$kid" 'any(.revocations[]; .category == "key" and .id == $kid) | not' "$bundle" >/dev/null ||
	fail 'signed by a key that it revokes'
jq -er --arg kid "$kid" '[.keys[] | select(.kid == $kid and .kty == "EC" and .crv == "P-256")] | first | .x, .y' \
	"$jwks" >"$tmp/xy" || fail "no key $kid"
{ # SubjectPublicKeyInfo of a P-256 key: a fixed beginning, then 04, x and y.
	printf '\060\131\060\023\006\007\052\206\110\316\075\002\001\006\010\052\206\110\316\075\003\001\007\003\102\000\004'
	unb64 "$(sed -n 1p "$tmp/xy")"
	unb64 "$(sed -n 2p "$tmp/xy")"
} >"$tmp/key.der"

# 4. Signature: over the protected header, a dot, and the exact bytes of the
# file. openssl wants r and s in DER.
rs=$(unb64 "$signature" | hex)
[ ${#rs} = 128 ] || fail 'signature is not r||s'
printf 'asn1=SEQUENCE:rs\n[rs]\nr=INTEGER:0x%s\ns=INTEGER:0x%s\n' \
	"$(printf %s "$rs" | cut -c1-64)" "$(printf %s "$rs" | cut -c65-128)" >"$tmp/rs.cnf"
openssl asn1parse -genconf "$tmp/rs.cnf" -noout -out "$tmp/signature.der"
{ printf '%s.' "$protected"; cat "$bundle"; } >"$tmp/signed"
openssl dgst -sha256 -keyform DER -verify "$tmp/key.der" -signature "$tmp/signature.der" "$tmp/signed" >/dev/null ||
	fail 'signature does not verify'

# 5. Not older than the last one.
if [ -n "$state" ]; then
	sequence=$(jq -r .sequence "$bundle")
	[ ! -e "$state" ] || [ "$sequence" -ge "$(cat "$state")" ] || fail "sequence $sequence is older than $(cat "$state")"
	printf '%s\n' "$sequence" >"$state.new" && mv "$state.new" "$state"
fi
echo "verified: sha256:$want signed by $kid"
