#!/usr/bin/env python3
"""Makes the files in valid/ without any of our code: see SOURCES.md."""
import base64, hashlib, json, pathlib
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


bundle = {
    "schemaVersion": "1.0.0",
    "issuer": "https://authority.example",
    "issuedAt": "2026-11-22T04:00:00Z",
    "validFrom": "2026-11-22T03:59:00Z",
    "expiresAt": "2126-11-22T04:00:00Z",
    "sequence": 7,
    "bundleId": "00112233445566778899aabbccddeeff",
    "signingKeyId": "es256-2026-11-22-1",
    "metadata": {"environment": "prod <&> é \U0001f511", "count": 4, "drill": False},
    "revocations": [
        {"category": "token", "id": "jti-1", "tokenType": "access_token", "clientId": "ci", "subjectId": "usr_1",
         "reason": "client_request", "revokedAt": "2026-11-22T03:58:00Z", "scopes": ["jobs:read", "jobs:write"]},
        {"category": "subject", "id": "usr_2", "subjectId": "usr_2", "reason": "account_disabled",
         "revokedAt": "2026-11-22T03:00:00.25Z"},
        {"category": "client", "id": "old \"client\"", "clientId": "old \"client\"", "revokedAt": "2026-11-21T00:00:00Z"},
        {"category": "key", "id": "es256-2026-10-01-1", "reason": "key_compromise", "revokedAt": "2026-11-20T12:00:00Z"},
    ],
}
bundle["revocations"].sort(key=lambda e: (e["category"], e["id"], e["revokedAt"]))
data = json.dumps(bundle, indent=2, sort_keys=True, ensure_ascii=False).encode()

key = ec.generate_private_key(ec.SECP256R1())
kid = bundle["signingKeyId"]
header = {"alg": "ES256", "kid": kid, "provider": "default",
          "typ": "application/vnd.stellaops.revocation-bundle+jws", "b64": False, "crit": ["b64"]}
protected = b64(json.dumps(header).encode())
r, s = decode_dss_signature(key.sign(protected.encode() + b"." + data, ec.ECDSA(hashes.SHA256())))
signature = b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
point = key.public_key().public_numbers()
jwk = {"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig",
       "x": b64(point.x.to_bytes(32, "big")), "y": b64(point.y.to_bytes(32, "big"))}

out = pathlib.Path(__file__).parent / "valid"
(out / "revocation-bundle.json").write_bytes(data)
(out / "revocation-bundle.json.jws").write_text(f"{protected}..{signature}")
(out / "revocation-bundle.json.sha256").write_text(hashlib.sha256(data).hexdigest() + "\n")
(out / "jwks.json").write_text(json.dumps({"keys": [jwk]}) + "\n")
