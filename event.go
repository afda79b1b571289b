package authsome

import "time"

// Event is one audited act. It never holds a value of a secret. Times are UTC.
type Event struct {
	Seq        int64     `json:"seq"` // position in the log, given at commit, from 1
	ID         string    `json:"event_id"`
	Time       time.Time `json:"timestamp"`
	Type       EventType `json:"event"`
	Status     string    `json:"status"` // "ok", "denied", "failed", "started"
	Provider   string    `json:"provider,omitempty"`
	Connection string    `json:"connection,omitempty"`
	Identity   string    `json:"identity,omitempty"`
	Vault      string    `json:"vault,omitempty"`
	Run        string    `json:"run,omitempty"`
	PID        int       `json:"pid,omitempty"`
	Program    string    `json:"program,omitempty"`
	Method     string    `json:"method,omitempty"`
	Host       string    `json:"host,omitempty"`
	Path       string    `json:"path,omitempty"` // without the query, which may hold secrets
	Code       int       `json:"code,omitempty"` // HTTP status
	Sent       int64     `json:"sent,omitempty"` // bytes of the request body
	Received   int64     `json:"received,omitempty"`
	DurationMS int64     `json:"duration_ms,omitempty"`
	Request    string    `json:"request,omitempty"` // ties the intent ("started") and the completion of one request
	Detail     string    `json:"detail,omitempty"`  // one line for people
}

// EventType names the act.
type EventType string

// The acts.
const (
	EventLogin                EventType = "provider.login"
	EventLoginFailed          EventType = "provider.login_failed"
	EventLogout               EventType = "provider.logout"
	EventRevoked              EventType = "provider.revoked"
	EventRegistered           EventType = "provider.registered"
	EventUpdated              EventType = "provider.updated"
	EventDeleted              EventType = "provider.deleted"
	EventClientSet            EventType = "provider.client_configured"
	EventRefreshed            EventType = "provider.refreshed"
	EventRefreshFailed        EventType = "provider.refresh_failed"
	EventDefaultSet           EventType = "connection.default_set"
	EventRevealed             EventType = "credential.revealed"
	EventExported             EventType = "credential.exported"
	EventDenied               EventType = "operation.denied"
	EventRunStarted           EventType = "run.started"
	EventRunResumed           EventType = "run.resumed"
	EventRunEnded             EventType = "run.ended"
	EventInjected             EventType = "proxy.injected"
	EventScrubbed             EventType = "proxy.scrubbed"
	EventProxyDenied          EventType = "proxy_deny"
	EventProxyNoCredentials   EventType = "proxy_no_credentials"
	EventAuthorityRotated     EventType = "ca.rotated"
	EventAuthorityInstalled   EventType = "ca.installed" // made to be installed; the stores are the command's
	EventAuthorityUninstalled EventType = "ca.uninstalled"
	EventDaemonStarted        EventType = "daemon.started"
	EventDaemonStopped        EventType = "daemon.stopped"
)
