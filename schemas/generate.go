package schemas

//go:generate go run ./internal/docgen
