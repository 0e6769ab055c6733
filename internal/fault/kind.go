package fault

// Kind classifies an error by what the caller should do about it.
type Kind uint8

// The kinds, in the order of their exit codes.
const (
	None Kind = iota
	Unclassified
	Input
	Denied
	NotFound
	Offline
	Transient
	ChecksFailed
	Trust
	Order
	Partial
	Locked
	NothingToDo
	Config
	Interrupted
	Terminated
)

// Row is one line of the exit table.
type Row struct {
	Kind    Kind
	Name    string // stable, used in JSON as error.code
	Code    int
	Meaning string
	Origin  string // "platform" or "stella"
}

var table = [...]Row{
	{None, "ok", 0, "done", "platform"},
	{Unclassified, "unclassified", 1, "an error that has no class of its own", "platform"},
	{Input, "input", 2, "bad input or usage", "platform"},
	{Denied, "denied", 3, "not authenticated or not permitted", "platform"},
	{NotFound, "not_found", 4, "the named thing does not exist", "platform"},
	{Offline, "offline", 5, "the command needs the network, but offline mode is on", "platform"},
	{Transient, "transient", 10, "a passing failure; the only code to retry", "platform"},
	{ChecksFailed, "checks_failed", 20, "checks ran and some failed", "stella"},
	{Trust, "trust", 21, "signature, digest, rollback, expiry or key is wrong; never retry", "stella"},
	{Order, "order", 22, "wrong state or too early; the message says when and what next", "stella"},
	{Partial, "partial", 23, "done in part; the state is consistent", "stella"},
	{Locked, "locked", 24, "another run holds the lock", "stella"},
	{NothingToDo, "nothing_to_do", 25, "nothing to do (only with --detailed-exit)", "stella"},
	{Config, "config", 78, "configuration or secret file invalid; nothing touched", "stella"},
	{Interrupted, "interrupted", 130, "cancelled by SIGINT; the state is consistent", "platform"},
	{Terminated, "terminated", 143, "cancelled by SIGTERM; the state is consistent", "stella"},
}

// Table returns the exit table in the order of its codes.
func Table() []Row { return append([]Row(nil), table[:]...) }

// ExitCode returns the process exit code of k.
func (k Kind) ExitCode() int { return table[k.index()].Code }

// String returns the stable name of k.
func (k Kind) String() string { return table[k.index()].Name }

func (k Kind) index() Kind {
	if int(k) >= len(table) {
		return Unclassified
	}
	return k
}
