package decode_test

import (
	"fmt"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/decode"
	"backbone/transforms/source"
)

// A mapping file makes rows of a shop's own format; what can't be a row is named.
func Example() {
	m, err := mappings.Parse("shop.yaml", []byte(`
fields:
  event_time: {path: at, unit: ms}
  event_type: {path: what, values: {pv: view, buy: purchase}, only: true}
  user_id:    {path: customer.id}
  item_id:    {path: sku}
event_id: [customer.id, at, sku]
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	decoder, err := decode.New(m, schemas.Interactions, (*schemas.Interaction).Reset)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, record := range []string{
		`{"at":1772359200000,"what":"pv","customer":{"id":7,"vip":true},"sku":"book"}`,
		`{"at":1772359200000,"what":"pw","customer":{"id":7},"sku":"book"}`,
		`{"at":1772359200000,"what":"pv","what":"buy"}`,
	} {
		decoder.Decode(&source.Record{Data: []byte(record)}, func(row *schemas.Interaction, fault *schemas.FieldError) {
			if fault != nil {
				fmt.Println("dead letter:", fault)
				return
			}
			fmt.Println(row.EventID, row.EventType, row.UserID, row.ItemID, row.Extra)
		})
	}
	// Output:
	// b006152c4a77614e76a847e5e4c2c0a9 view 7 book [{customer.vip true}]
	// dead letter: unknown_type: what: "pw" is not one of the values that the mapping lists
	// dead letter: duplicate_key: what: the key comes twice
}
