package rows_test

import (
	"fmt"

	"backbone/schemas"
	"backbone/transforms/rows"
)

// Rows travel through a pipeline as chunks.
func Example() {
	codec := rows.NewCodec(schemas.Interactions.Columns)
	chunk := codec.AppendHeader(nil)
	for _, row := range []schemas.Interaction{
		{EventID: "1", UserID: "ann", EventType: "view", ItemID: "book"},
		{EventID: "2", UserID: "bob", EventType: "rate", ItemID: "book", Value: schemas.Some(4.5)},
	} {
		chunk = codec.Append(chunk, &row)
	}

	reader, err := codec.Read(chunk)
	if err != nil {
		fmt.Println(err)
		return
	}
	var row schemas.Interaction
	for {
		body, err := reader.Next()
		if err != nil || body == nil {
			break
		}
		row.Reset()
		if err := codec.Decode(body, reader.Columns(), &row); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(row.EventID, row.UserID, row.EventType, row.ItemID, row.Value.Or(0))
	}
	// Output:
	// 1 ann view book 0
	// 2 bob rate book 4.5
}
