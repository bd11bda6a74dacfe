package schemas

// Stamp tells the versions of a user or an item apart. A version holds from ValidFrom until ValidTo.
type Stamp struct {
	UpdatedTime Time   // when the source changed it; where it does not say, the time that its export is as of
	IsDeleted   Bool   // it is there no more: nothing else is known of it
	ValidFrom   Time   // first instant of the version
	ValidTo     Time   // first instant after it; absent while it is current
	ContentHash string // of all that the source said; the same content has the same hash, absent when deleted
}

// stampColumns are the columns of a stamp. They follow the id, so that versions can be told apart without the rest.
var stampColumns = []Column[Stamp]{
	{Name: "updated_time", Kind: Micros, Required: true, Made: true, Doc: "When the source changed it. Where the source does not say: the time that the export is as of.", Int: func(s *Stamp) *Int { return &s.UpdatedTime }},
	{Name: "is_deleted", Kind: Boolean, Required: true, Made: true, Doc: "Whether it is there no more: then all else but the times is absent.", Bool: func(s *Stamp) *Bool { return &s.IsDeleted }},
	{Name: "valid_from", Kind: Micros, Required: true, System: true, Doc: "First instant at which this version holds.", Int: func(s *Stamp) *Int { return &s.ValidFrom }},
	{Name: "valid_to", Kind: Micros, System: true, Doc: "First instant after this version, as known when it was closed; absent in the current state.", Int: func(s *Stamp) *Int { return &s.ValidTo }},
	{Name: "content_hash", Kind: String, System: true, Doc: "Hash of all that the source said of it: versions with the same content have the same. Absent where is_deleted.", Str: func(s *Stamp) *string { return &s.ContentHash }},
}

// HistoryOf returns the name of the table that holds the closed versions of a table.
func HistoryOf(table string) string { return table + "_history" }
