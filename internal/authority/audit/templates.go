package audit

// Messages of log lines that dashboards of the platform count, byte for byte:
// log_messages_total has them as its label. They are the message of the line,
// unchanged; what stands in braces is an attribute of the line beside it. Of
// the first two only the words up to "user" and around the middle are
// upstream's; the rest is ours.
const (
	TemplatePasswordFailed = "Password grant verification failed for user {Username}."
	TemplateLockedOut      = "Plugin {PluginName} denied access for user {Username} due to lockout"
	TemplateBypass         = "Granting StellaOps bypass for remote {RemoteIp}; required scopes {RequiredScopes}."
	TemplateRateLimited    = "Rate limit exceeded for path {Path} from {RemoteIp}"
)

// Templates returns all of them.
func Templates() []string {
	return []string{TemplatePasswordFailed, TemplateLockedOut, TemplateBypass, TemplateRateLimited}
}
