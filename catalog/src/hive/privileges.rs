//! Privileges, which are kept for engines to read: a metastore itself asks for none.

use std::collections::{BTreeMap, BTreeSet};

use tereza_runtime::{Error, ErrorKind};
use tereza_thrift::hive::{
    self, Exception, GrantRevokePrivilegeResponse, GrantRevokeType, HiveObjectPrivilege, HiveObjectRef, HiveObjectType,
    InvalidObjectException, MetaException, NoSuchObjectException, PrincipalPrivilegeSet, PrivilegeBag,
    PrivilegeGrantInfo,
};

use super::names::{self, CATALOG};
use super::{Answer, Session, convert, unless_gone};
use crate::model::{Grant, PUBLIC_ROLE, Principal, PrincipalKind, Securable};

/// The rules that privileges of a new table are part of.
const SQL: &str = "SQL";

impl Session {
    /// What a new table is made with: privileges for its owner, as engines send them.
    pub(super) fn grants_of(database: &str, table: &str, set: Option<Box<PrincipalPrivilegeSet>>) -> Vec<Grant> {
        let set = set.map(|set| *set).unwrap_or_default();
        let kinds = [
            (PrincipalKind::User, set.user_privileges),
            (PrincipalKind::Group, set.group_privileges),
            (PrincipalKind::Role, set.role_privileges),
        ];
        let mut grants: Vec<Grant> = Vec::new();
        for (kind, of) in kinds {
            for (name, infos) in of.unwrap_or_default() {
                for info in infos {
                    let on = Securable::Table { database: database.to_owned(), table: table.to_owned() };
                    let to = Principal { name: name.clone(), kind };
                    for grant in grants_from(on, to, info, Some(SQL.to_owned())) {
                        let is_same = |other: &Grant| {
                            other.to == grant.to && other.privilege == grant.privilege && other.grantor == grant.grantor
                        };
                        if !grants.iter().any(is_same) {
                            grants.push(grant);
                        }
                    }
                }
            }
        }
        grants
    }

    pub(super) async fn give_privileges(&self, args: hive::GrantPrivilegesArgs) -> Answer<bool> {
        self.give(args.privileges).await
    }

    pub(super) async fn take_privileges(&self, args: hive::RevokePrivilegesArgs) -> Answer<bool> {
        self.take(args.privileges, false).await
    }

    pub(super) async fn change_privileges(
        &self,
        args: hive::GrantRevokePrivilegesArgs,
    ) -> Answer<GrantRevokePrivilegeResponse> {
        let request = args.request.unwrap_or_default();
        let success = match request.request_type {
            Some(GrantRevokeType::GRANT) => self.give(request.privileges).await?,
            Some(GrantRevokeType::REVOKE) => {
                self.take(request.privileges, request.revoke_grant_option.unwrap_or_default()).await?
            }
            _ => return Err(MetaException::new("Unknown request type for privileges: neither grant nor revoke").into()),
        };
        Ok(GrantRevokePrivilegeResponse { success: Some(success) })
    }

    async fn give(&self, bag: Option<PrivilegeBag>) -> Answer<bool> {
        let grants = all_from(bag)?;
        self.store().grant_privileges(&grants).await.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => InvalidObjectException::new(error.to_string()).into(),
            _ => of_privileges(error),
        })?;
        Ok(true)
    }

    async fn take(&self, bag: Option<PrivilegeBag>, option_only: bool) -> Answer<bool> {
        let grants = all_from(bag)?;
        self.store().revoke_privileges(&grants, option_only).await.map_err(of_privileges)?;
        Ok(true)
    }

    /// Who has what on something; of one principal if one is named. Of what is not there: nothing.
    pub(super) async fn listed_privileges(&self, args: hive::ListPrivilegesArgs) -> Answer<Vec<HiveObjectPrivilege>> {
        let Some(on) = args.hive_object else {
            return Err(MetaException::new("privileges are asked for by what they are on").into());
        };
        let on = securable(on)?;
        let of = args.principal_name.map(|name| convert::principal_from(Some(name), args.principal_type));
        let found = unless_gone(self.store().privileges(&on, of.as_ref()).await)?.unwrap_or_default();
        Ok(found.into_iter().map(privilege_to).collect())
    }

    /// What somebody may do on something, by themselves, their groups and their roles.
    pub(super) async fn privilege_set(&self, args: hive::GetPrivilegeSetArgs) -> Answer<PrincipalPrivilegeSet> {
        let (Some(user), Some(on)) = (args.user_name, args.hive_object) else {
            return Ok(PrincipalPrivilegeSet::default());
        };
        let on = securable(on)?;
        let found = unless_gone(self.store().privileges(&on, None).await)?.unwrap_or_default();
        let of = |kind: PrincipalKind, name: &str| -> Vec<PrivilegeGrantInfo> {
            let own = found.iter().filter(|grant| grant.to.kind == kind && grant.to.name == name);
            own.map(|grant| info_to(grant.clone())).collect()
        };
        let groups = args.group_names.unwrap_or_default();
        let roles = self.all_roles(&user, &groups).await?;
        let role_privileges: BTreeMap<_, _> =
            roles.into_iter().map(|role| (role.clone(), of(PrincipalKind::Role, &role))).collect();
        let group_privileges: BTreeMap<_, _> =
            groups.into_iter().map(|group| (group.clone(), of(PrincipalKind::Group, &group))).collect();
        let user_privileges = BTreeMap::from([(user.clone(), of(PrincipalKind::User, &user))]);
        Ok(PrincipalPrivilegeSet {
            user_privileges: Some(user_privileges),
            group_privileges: (!group_privileges.is_empty()).then_some(group_privileges),
            role_privileges: Some(role_privileges),
        })
    }

    /// The roles of a user and of groups, with those that they have through others.
    async fn all_roles(&self, user: &str, groups: &[String]) -> Answer<BTreeSet<String>> {
        let mut roles = BTreeSet::from([PUBLIC_ROLE.to_owned()]);
        let mut next = vec![Principal { name: user.to_owned(), kind: PrincipalKind::User }];
        next.extend(groups.iter().map(|name| Principal { name: name.clone(), kind: PrincipalKind::Group }));
        next.push(Principal { name: PUBLIC_ROLE.to_owned(), kind: PrincipalKind::Role });
        while let Some(principal) = next.pop() {
            for grant in self.store().roles_of(&principal).await? {
                if roles.insert(grant.role.clone()) {
                    next.push(Principal { name: grant.role, kind: PrincipalKind::Role });
                }
            }
        }
        Ok(roles)
    }
}

fn of_privileges(error: Error) -> Exception {
    match error.kind() {
        ErrorKind::NotFound => NoSuchObjectException::new(error.to_string()).into(),
        ErrorKind::InvalidInput => MetaException::new(error.to_string()).into(),
        _ => error.into(),
    }
}

fn all_from(bag: Option<PrivilegeBag>) -> Answer<Vec<Grant>> {
    let mut grants = Vec::new();
    for privilege in bag.unwrap_or_default().privileges.unwrap_or_default() {
        let Some(on) = privilege.hive_object else {
            return Err(MetaException::new("a privilege is on nothing").into());
        };
        let to = convert::principal_from(privilege.principal_name, privilege.principal_type);
        grants.extend(grants_from(securable(on)?, to, privilege.grant_info.unwrap_or_default(), privilege.authorizer));
    }
    Ok(grants)
}

/// Several privileges may be named with commas between.
pub(super) fn grants_from(
    on: Securable,
    to: Principal,
    info: PrivilegeGrantInfo,
    authorizer: Option<String>,
) -> Vec<Grant> {
    let grantor = info.grantor.map(|name| convert::principal_from(Some(name), info.grantor_type));
    let grant = |privilege: &str| Grant {
        on: on.clone(),
        to: to.clone(),
        privilege: privilege.trim().to_owned(),
        grantor: grantor.clone(),
        grant_option: info.grant_option.unwrap_or_default(),
        create_time_s: 0,
        authorizer: authorizer.clone(),
    };
    info.privilege.unwrap_or_default().split(',').map(grant).collect()
}

fn securable(object: HiveObjectRef) -> Answer<Securable> {
    names::check_catalog(object.cat_name.as_deref())?;
    let database = names::database(object.db_name)?;
    let (table, column) = (names::object(object.object_name), names::object(object.column_name));
    let values = object.part_values.filter(|values| !values.is_empty());
    match (object.object_type, values) {
        (Some(HiveObjectType::GLOBAL), _) => Ok(Securable::Everything),
        (Some(HiveObjectType::DATABASE), _) => Ok(Securable::Database { database }),
        (Some(HiveObjectType::TABLE), _) => Ok(Securable::Table { database, table }),
        (Some(HiveObjectType::PARTITION), Some(values)) => Ok(Securable::Partition { database, table, values }),
        (Some(HiveObjectType::COLUMN), partition) => Ok(Securable::Column { database, table, partition, column }),
        _ => Err(MetaException::new("privileges are on a database, table, partition or column, or on all").into()),
    }
}

pub(super) fn object_to(on: Securable) -> HiveObjectRef {
    let catalog = Some(CATALOG.to_owned());
    let of = |object_type, database, table| HiveObjectRef {
        object_type: Some(object_type),
        db_name: database,
        object_name: table,
        cat_name: catalog.clone(),
        ..HiveObjectRef::default()
    };
    match on {
        Securable::Everything => HiveObjectRef { cat_name: None, ..of(HiveObjectType::GLOBAL, None, None) },
        Securable::Database { database } => of(HiveObjectType::DATABASE, Some(database), None),
        Securable::Table { database, table } => of(HiveObjectType::TABLE, Some(database), Some(table)),
        Securable::Partition { database, table, values } => {
            let object = of(HiveObjectType::PARTITION, Some(database), Some(table));
            HiveObjectRef { part_values: Some(values), ..object }
        }
        Securable::Column { database, table, partition, column } => {
            let object = of(HiveObjectType::COLUMN, Some(database), Some(table));
            HiveObjectRef { part_values: partition, column_name: Some(column), ..object }
        }
    }
}

fn info_to(grant: Grant) -> PrivilegeGrantInfo {
    let (grantor, kind) = grant.grantor.map(|grantor| (grantor.name, grantor.kind)).unzip();
    PrivilegeGrantInfo {
        privilege: Some(grant.privilege),
        create_time: Some(convert::seconds(grant.create_time_s)),
        grantor,
        grantor_type: kind.map(convert::kind_to),
        grant_option: Some(grant.grant_option),
    }
}

fn privilege_to(grant: Grant) -> HiveObjectPrivilege {
    HiveObjectPrivilege {
        hive_object: Some(object_to(grant.on.clone())),
        principal_name: Some(grant.to.name.clone()),
        principal_type: Some(convert::kind_to(grant.to.kind)),
        authorizer: grant.authorizer.clone(),
        grant_info: Some(info_to(grant)),
    }
}
