#[derive(Default, Serialize, Deserialize)]
struct Cancel {
    seen: u64,
}
