package device

// words says in words what a scope allows, or "" for one that is not known
// here: then its name alone is shown.
func words(scope string) string {
	switch scope {
	case "authority:keys.read":
		return "See the signing keys and their history"
	case "authority:keys.manage":
		return "Rotate, schedule and revoke signing keys"
	case "authority:tenants.read":
		return "See the tenants"
	case "authority.audit.read":
		return "Read the audit records"
	case "authority.clients.manage":
		return "Register, change and remove programs"
	case "authority.users.manage":
		return "Create, change and remove user accounts"
	case "signer.sign":
		return "Sign artifacts"
	case "feedser.jobs.trigger", "concelier.jobs.trigger":
		return "Start advisory feed jobs"
	case "concelier.merge":
		return "Merge advisory sources"
	case "concelier.mirror.read", "excititor.mirror.read":
		return "Download the advisory mirror"
	case "advisory:read":
		return "Read advisories"
	case "advisory:ingest":
		return "Add advisories"
	case "vex:read":
		return "Read VEX statements"
	case "vex:ingest":
		return "Add VEX statements"
	case "aoc:verify":
		return "Verify collected advisory data"
	case "effective:write":
		return "Change effective findings"
	case "findings:read":
		return "Read findings"
	case "exceptions:approve":
		return "Approve exceptions"
	case "evidence:read":
		return "Read evidence"
	case "email":
		return "See your e-mail address"
	}
	return ""
}
