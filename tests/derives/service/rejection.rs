#[derive(Debug, thiserror::Error)]
enum OrderRejection {
    #[error("the order is paid already")]
    AlreadyPaid,
}
