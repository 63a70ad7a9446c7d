package admission

// Verdict is what the API server is told about an object.
type Verdict struct {
	// Denial is why the object may not be written, "" if it may.
	Denial string
	// Warnings are shown to the user who writes it. The API server cuts them
	// after 256 bytes.
	Warnings []string
}

func denied(message string) Verdict { return Verdict{Denial: message} }
