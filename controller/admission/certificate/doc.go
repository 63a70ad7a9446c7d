// Package certificate has the API server trust the controller's webhooks. The
// certificate and its CA are in a Secret, made by the first controller that
// finds none and renewed long before they end; the CA is also in whatever
// configures the API server to call. Every controller does this, and they
// agree through the Secret.
package certificate
