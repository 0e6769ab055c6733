package audit

// Event types. Those without a mark are upstream's, the others are ours in its
// manner: authority, what it is about, what was asked.
const (
	TypeClientCredentials = "authority.client_credentials.grant"
	TypeLegacyEndpoint    = "authority.api.legacy_endpoint"
	TypeBootstrapUser     = "authority.bootstrap.user"

	TypeDeviceCode      = "authority.device_code.grant"     // ours
	TypeRefreshToken    = "authority.refresh_token.grant"   // ours
	TypeServiceAccount  = "authority.service_account.grant" // ours
	TypeToken           = "authority.token.request"         // ours: refused before the grant was known
	TypeDeviceStart     = "authority.device.authorize"      // ours
	TypeDeviceVerify    = "authority.device.verify"         // ours
	TypeDeviceLogin     = "authority.device.login"          // ours
	TypeDeviceApprove   = "authority.device.approve"        // ours
	TypeDeviceDeny      = "authority.device.deny"           // ours
	TypeIntrospect      = "authority.token.introspect"      // ours
	TypeRevoke          = "authority.token.revoke"          // ours
	TypeRevocation      = "authority.revocation.change"     // ours
	TypeRevocationRead  = "authority.revocation.export"     // ours
	TypeBootstrapClient = "authority.bootstrap.client"      // ours
	TypeSigning         = "authority.signing.change"        // ours
	TypeBypass          = "authority.network.bypass"        // ours
	TypeInternal        = "authority.internal.request"      // ours: refused before it was looked at
)

// Names of properties that more than one package uses, or that upstream has.
// docs/formats/audit-record.md lists all.
const (
	PropTampered   = "request.tampered"             // upstream's
	PropUnexpected = "request.unexpected_parameter" // upstream's
	PropInvite     = "bootstrap.invite_token"       // upstream's; Sensitive
	PropTokenID    = "token.jti"
	PropKID        = "token.kid"
	PropFamily     = "token.family" // Sensitive
)
